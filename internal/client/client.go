// Package client speaks to the management interfaces of a server the way the
// quick start does: publish a document, subscribe an application, get a token,
// call. The shell commands and the demo share it.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// Paths of the management interfaces.
const (
	Publisher = "/api/am/publisher/v4"
	Devportal = "/api/am/devportal/v3"
	Admin     = "/api/am/admin/v4"
	Own       = "/api/cardea/v1"
)

const maxAnswer = 64 << 20

// Client is one user at one server.
type Client struct {
	Base      string // https://host:port
	HTTP      *http.Client
	Authorize func(*http.Request)  // adds the credentials; nil: none
	Progress  func(string, ...any) // tells a person what happens; nil: silent
}

// Refusal is an answer of the server that is not a success.
type Refusal struct {
	Method, Path string
	Status       int
	Code         string
	Message      string
	Description  string
}

// Error reads like a sentence for a person at a terminal.
func (r *Refusal) Error() string {
	text := strings.TrimSuffix(strings.TrimSpace(r.Message+": "+r.Description), ":")
	if r.Message == "" {
		text = r.Description
	}
	if text == "" {
		text = http.StatusText(r.Status)
	}
	return fmt.Sprintf("%s (status %d, code %s, %s %s)", text, r.Status, r.Code, r.Method, r.Path)
}

// IsStatus reports whether err is a refusal with that status.
func IsStatus(err error, status int) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Status == status
}

func (c *Client) say(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(format, args...)
	}
}

// Do sends in as JSON (nil: no body) and decodes the answer into out (nil: ignored).
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.send(req, out)
}

// part is one part of an upload; with file it is a file part.
type part struct {
	name, file string
	data       []byte
}

func (c *Client) upload(ctx context.Context, method, path string, out any, parts ...part) error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		var pw io.Writer
		var err error
		if p.file != "" {
			pw, err = w.CreateFormFile(p.name, p.file)
		} else {
			pw, err = w.CreateFormField(p.name)
		}
		if err == nil {
			_, err = pw.Write(p.data)
		}
		if err != nil {
			return fmt.Errorf("encode upload: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("encode upload: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, &b)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	return c.send(req, out)
}

func (c *Client) send(req *http.Request, out any) error {
	req.Header.Set("Accept", "application/json")
	if c.Authorize != nil {
		c.Authorize(req)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return fmt.Errorf("reach %s: %w", c.Base, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of %s %s: %w", req.Method, req.URL.Path, err)
	}
	if res.StatusCode >= 300 {
		return refusal(req, res, b)
	}
	if r := res.Header.Get("Cardea-Receipt"); strings.Contains(r, "complete=false") {
		c.say("  not every gateway runs this yet: %s", r)
	}
	if out == nil {
		return nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = b
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode answer of %s %s: %w", req.Method, req.URL.Path, err)
	}
	return nil
}

// refusal reads the error bodies of the management interfaces and of OAuth.
func refusal(req *http.Request, res *http.Response, b []byte) *Refusal {
	r := &Refusal{Method: req.Method, Path: req.URL.Path, Status: res.StatusCode}
	var body struct {
		Code             json.RawMessage `json:"code"`
		Message          string          `json:"message"`
		Description      string          `json:"description"`
		Error            json.RawMessage `json:"error"`
		ErrorDescription string          `json:"error_description"`
	}
	if err := json.Unmarshal(b, &body); err != nil {
		r.Description = strings.TrimSpace(string(b[:min(len(b), 300)]))
		return r
	}
	r.Code, r.Message, r.Description = strings.Trim(string(body.Code), `"`), body.Message, body.Description
	if body.ErrorDescription != "" {
		r.Code, r.Description = strings.Trim(string(body.Error), `"`), body.ErrorDescription
	}
	return r
}
