package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// ReceiptHeader says which version of the snapshot a write became and which
// gateways run it.
const ReceiptHeader = "Cardea-Receipt"

// responder delays the head of a response until the receipt of the write is in.
type responder struct {
	http.ResponseWriter
	ctx    context.Context
	call   *call
	wrote  bool
	noWait bool
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responder) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	if status < 300 && !w.noWait {
		if rc, err := Wait(w.ctx); err != nil {
			w.call.surface.Log.WarnContext(w.ctx, "receipt not available", "operation", w.call.opID(), "err", err)
		} else if rc.Version != (snapshot.Version{}) {
			w.Header().Set(ReceiptHeader, receiptText(rc))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responder) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

func (w *responder) fail(err error) {
	if w.wrote {
		return // the answer is on its way; the connection's end tells the client
	}
	f := fault.Of(err)
	if f.Kind == fault.Internal && !errors.Is(err, context.Canceled) {
		w.call.surface.Log.ErrorContext(w.ctx, "request failed", "operation", w.call.opID(), "err", err)
	}
	writeFault(w, f)
}

// Wait waits until gateways run what the request has written so far, for
// handlers that show the receipt in their answer. Waiting again without a
// further write is free.
func Wait(ctx context.Context) (snapshot.Receipt, error) {
	c := callOf(ctx)
	if c == nil || c.changes == nil || c.surface.Receipts == nil {
		return snapshot.Receipt{Complete: true}, nil
	}
	ids := c.changes.IDs()
	if c.receipt != nil && c.receiptN == len(ids) {
		return *c.receipt, nil
	}
	if len(ids) == 0 {
		return snapshot.Receipt{Complete: true}, nil
	}
	rc, err := c.surface.Receipts.Wait(ctx, ids)
	if err != nil {
		return snapshot.Receipt{}, err
	}
	c.receipt, c.receiptN = &rc, len(ids)
	return rc, nil
}

func receiptText(rc snapshot.Receipt) string {
	var b strings.Builder
	acked := 0
	var late []string
	for _, g := range rc.Gateways {
		if g.Acked {
			acked++
		} else {
			late = append(late, g.Gateway)
		}
	}
	b.WriteString("version=" + rc.Version.String())
	b.WriteString("; complete=" + strconv.FormatBool(rc.Complete))
	b.WriteString("; gateways=" + strconv.Itoa(acked) + "/" + strconv.Itoa(len(rc.Gateways)))
	b.WriteString("; elapsed=" + strconv.FormatInt(rc.Elapsed.Milliseconds(), 10) + "ms")
	if len(late) > 0 {
		b.WriteString("; late=" + strconv.Quote(strings.Join(late, " ")))
	}
	return b.String()
}

// JSON writes v as the response.
func JSON(w http.ResponseWriter, status int, v any) error {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a client that left cannot be told
	return nil
}

// Raw writes bytes as the response.
func Raw(w http.ResponseWriter, status int, contentType string, b []byte) error {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that left cannot be told
	return nil
}

// Empty writes a response without a body.
func Empty(w http.ResponseWriter, status int) error {
	w.WriteHeader(status)
	return nil
}

// Fault renders err as the contract's error body, for handlers outside a surface.
func Fault(w http.ResponseWriter, _ *http.Request, err error) { writeFault(w, fault.Of(err)) }

type faultBody struct {
	Code        int         `json:"code"`
	Message     string      `json:"message"`
	Description string      `json:"description"`
	MoreInfo    string      `json:"moreInfo"`
	Error       []faultItem `json:"error"`
}

type faultItem struct {
	Code        string `json:"code"`
	Message     string `json:"message"`
	Description string `json:"description"`
}

func writeFault(w http.ResponseWriter, f *fault.Error) {
	body := faultBody{Code: f.Code, Message: f.Msg, Description: f.Detail, Error: []faultItem{}}
	if body.Description == "" {
		body.Description = f.Msg
	}
	for _, it := range f.Items {
		body.Error = append(body.Error, faultItem{Code: it.Code, Message: it.Message, Description: it.Detail})
	}
	b, err := json.Marshal(body)
	if err != nil {
		b = []byte(`{"code":900967,"message":"General Error","description":"Internal server error","moreInfo":"","error":[]}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	h.Del("ETag")
	if f.Status() == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="Cardea"`)
	}
	if f.Status() == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(f.Status())
	_, _ = w.Write(b) // a client that left cannot be told
}
