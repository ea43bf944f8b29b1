package keymanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

const (
	textNoCode   = "This code is not known, or not valid any more. Look at your device and enter the code it shows now."
	textNoLogin  = "The user name or password is wrong."
	textTooOften = "Too many attempts. Wait a little and try again."
)

// errDecided marks a device authorization on which somebody decided already.
var errDecided = errors.New("decided already")

// deviceForm is the page where a user enters the code of a device and decides.
// The decision is sent with the user's password: no cookie is read, so that no
// other site can make a signed-in browser decide.
func (k *KeyManager) deviceForm(q *request) error {
	p, err := readParams(q)
	if err != nil {
		return err
	}
	typed := p["user_code"]
	d := pageData{Title: "Connect a device", Action: k.page(q, devicePage), Hint: p["username"]}
	if typed == "" {
		return k.show(q, http.StatusOK, "device", d)
	}
	ctx, addr := q.r.Context(), k.o.ClientAddr(q.r)
	guess := "user-code:" + addr
	if wait := k.o.Directory.Wait(guess, addr); wait > 0 {
		d.Problem = textTooOften
		return k.show(q, http.StatusTooManyRequests, "device", d)
	}
	hash, doc, c, err := k.deviceOf(ctx, typed)
	if err != nil {
		return err
	}
	if c == nil {
		k.o.Directory.Failed(guess, addr)
		d.Problem = textNoCode
		return k.show(q, http.StatusOK, "device", d)
	}
	d.Client, d.Key = c.Name, doc.UserCode
	for _, s := range doc.Scopes {
		d.Scopes = append(d.Scopes, pageField{Name: s, Text: s})
	}
	if q.r.Method != http.MethodPost || p["decision"] == "" {
		return k.show(q, http.StatusOK, "device_decide", d)
	}
	u, err := k.deviceUser(ctx, q, c, p, addr)
	switch {
	case errors.Is(err, &fault.LoginDelayed):
		d.Problem = textTooOften
		return k.show(q, http.StatusTooManyRequests, "device_decide", d)
	case errors.Is(err, &fault.NotAuthorized):
		d.Problem = textNoLogin
		return k.show(q, http.StatusOK, "device_decide", d)
	case err != nil:
		return err
	}
	state := deviceDenied
	if p["decision"] == "approve" {
		state = deviceApproved
	}
	err = k.decideDevice(ctx, hash, u.ID, state)
	if errors.Is(err, errDecided) || errors.Is(err, &fault.Missing) {
		return k.show(q, http.StatusOK, "device", pageData{Title: d.Title, Action: d.Action, Problem: textNoCode})
	}
	if err != nil {
		return err
	}
	if err := k.o.Ephemera.Delete(ctx, kindUserCode, userCodeKey(typed)); err != nil {
		return err
	}
	done := pageData{Title: "Your device is connected", Client: c.Name}
	if state == deviceDenied {
		done.Title, done.Problem = "Your device was refused", "denied"
	}
	return k.show(q, http.StatusOK, "device_done", done)
}

// deviceOf finds the authorization a typed code belongs to; a nil client when
// there is none to decide on.
func (k *KeyManager) deviceOf(ctx context.Context, typed string) (apim.Digest, *deviceDoc, *apim.Client, error) {
	code, err := k.o.Ephemera.Get(ctx, kindUserCode, userCodeKey(typed))
	if errors.Is(err, &fault.Missing) {
		return "", nil, nil, nil
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("find user code: %w", err)
	}
	var hash apim.Digest
	if err := json.Unmarshal(code.Doc, &hash); err != nil {
		return "", nil, nil, fmt.Errorf("read user code: %w", err)
	}
	e, err := k.o.Ephemera.Get(ctx, apim.EphemeralDevice, hash)
	if errors.Is(err, &fault.Missing) {
		return "", nil, nil, nil
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("find device code: %w", err)
	}
	d := &deviceDoc{}
	if err := json.Unmarshal(e.Doc, d); err != nil {
		return "", nil, nil, fmt.Errorf("read device code: %w", err)
	}
	c, err := k.client(ctx, apim.ClientID(e.Client))
	if errors.Is(err, &fault.Missing) || err == nil && (c.Inactive || d.State != devicePending || !k.o.Now().Before(d.Ends)) {
		return "", nil, nil, nil
	}
	return hash, d, c, err
}

// deviceUser signs the user of the form in, who must be one the client serves.
func (k *KeyManager) deviceUser(ctx context.Context, q *request, c *apim.Client, p params, addr string) (*apim.User, error) {
	def := c.Tenant
	if c.SaaS {
		def = q.tenant
	}
	name, t := splitName(p["username"], def)
	if name == "" || t != c.Tenant && !c.SaaS {
		return nil, fault.NotAuthorized.Because(errors.New("user of another tenant than the client"))
	}
	return k.o.Directory.Authenticate(ctx, name+"@"+string(t), t, p["password"], addr)
}

// decideDevice stores the first decision; errDecided for any later one.
func (k *KeyManager) decideDevice(ctx context.Context, hash apim.Digest, u apim.UserID, state string) error {
	return k.o.Ephemera.Change(ctx, apim.EphemeralDevice, hash, func(e *apim.Ephemeral) error {
		var d deviceDoc
		if err := json.Unmarshal(e.Doc, &d); err != nil {
			return fmt.Errorf("read device code: %w", err)
		}
		if d.State != devicePending {
			return errDecided
		}
		d.State, d.User, d.Polled = state, u, time.Time{}
		doc, err := json.Marshal(d)
		e.Doc, e.Subject = doc, string(u)
		return err
	})
}
