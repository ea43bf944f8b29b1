package keymanager

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// Device authorization (RFC 8628): a device without a browser shows a short
// code that its user enters on a page of ours, while the device asks for its
// token again and again.

const (
	grantDevice    = "urn:ietf:params:oauth:grant-type:device_code"
	deviceLife     = 10 * time.Minute
	deviceInterval = 5 * time.Second
	deviceKept     = time.Minute // after its end, to tell the device that it ended
	kindUserCode   = "usercode"
	devicePage     = "device.do"

	// userCodeSet has no vowels and nothing that looks like something else; 8
	// of its 20 signs are 34 bits (RFC 8628 §6.1).
	userCodeSet = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLen = 8
)

// States of a device authorization.
const (
	devicePending  = ""
	deviceApproved = "approved"
	deviceDenied   = "denied"
)

// deviceDoc is what is stored of a device authorization.
type deviceDoc struct {
	UserCode string
	Scopes   []string
	Ends     time.Time
	State    string
	User     apim.UserID
	Polled   time.Time
	Wait     time.Duration // between two questions of the device
}

// deviceEndpoint starts an authorization (RFC 8628 §3.1).
func (k *KeyManager) deviceEndpoint(q *request) error {
	p, err := readParams(q)
	if err != nil {
		return err
	}
	auth, err := clientOf(q, p)
	if err != nil {
		return err
	}
	ctx := q.r.Context()
	c, _, err := k.authenticateClient(ctx, auth, k.o.ClientAddr(q.r))
	if err != nil {
		return err
	}
	if !slices.Contains(c.Grants, grantDevice) || slices.Contains(k.o.RefusedGrants, grantDevice) {
		return &oauthError{
			status: http.StatusBadRequest, code: "unauthorized_client",
			text: "The authenticated client is not authorized to use this authorization grant type",
		}
	}
	scopes := strings.Fields(p["scope"])
	if len(scopes) > maxScopes {
		return invalidRequest("Too many scopes are requested.")
	}
	code, user, err := k.startDevice(ctx, c, scopes)
	if err != nil {
		return err
	}
	page := k.o.URL + k.page(q, devicePage)
	noStore(q.w)
	write(q.w, http.StatusOK, struct {
		Device   string `json:"device_code"`
		User     string `json:"user_code"`
		URI      string `json:"verification_uri"`
		Complete string `json:"verification_uri_complete"`
		Expires  int64  `json:"expires_in"`
		Interval int64  `json:"interval"`
	}{code, user, page, page + "?user_code=" + url.QueryEscape(user), int64(deviceLife / time.Second), int64(deviceInterval / time.Second)})
	return nil
}

// deviceEndpointURL is empty while the grant is switched off.
func (k *KeyManager) deviceEndpointURL() string {
	if slices.Contains(k.o.RefusedGrants, grantDevice) {
		return ""
	}
	return k.o.URL + "/oauth2/device_authorize"
}

func (k *KeyManager) startDevice(ctx context.Context, c *apim.Client, scopes []string) (code, user string, err error) {
	code = token.NewSecret()
	now := k.o.Now()
	hash := apim.Digest(token.Digest(code))
	for range 8 { // until a user code is free
		user = newUserCode()
		added, err := k.o.Ephemera.Add(ctx, &apim.Ephemeral{
			Kind: kindUserCode, Hash: userCodeKey(user), Tenant: c.Tenant, Client: string(c.ID), Created: now, Expires: now.Add(deviceLife), Doc: quote(string(hash)),
		})
		if err != nil {
			return "", "", fmt.Errorf("store user code: %w", err)
		}
		if !added {
			continue
		}
		doc, err := json.Marshal(deviceDoc{UserCode: user, Scopes: scopes, Ends: now.Add(deviceLife), Wait: deviceInterval})
		if err != nil {
			return "", "", fmt.Errorf("store device code: %w", err)
		}
		err = k.o.Ephemera.Put(ctx, &apim.Ephemeral{
			Kind: apim.EphemeralDevice, Hash: hash, Tenant: c.Tenant, Client: string(c.ID), Created: now, Expires: now.Add(deviceLife + deviceKept), Doc: doc,
		})
		if err != nil {
			return "", "", fmt.Errorf("store device code: %w", err)
		}
		return code, user, nil
	}
	return "", "", errors.New("store user code: none is free")
}

// newUserCode is two groups of four signs.
func newUserCode() string {
	var b strings.Builder
	for b.Len() < userCodeLen {
		var one [1]byte
		if _, err := rand.Read(one[:]); err != nil {
			panic(err) // crypto/rand does not fail
		}
		if int(one[0]) < 256/len(userCodeSet)*len(userCodeSet) { // every sign as likely
			b.WriteByte(userCodeSet[int(one[0])%len(userCodeSet)])
		}
	}
	s := b.String()
	return s[:userCodeLen/2] + "-" + s[userCodeLen/2:]
}

// userCodeKey is the key of a code as somebody may type it.
func userCodeKey(typed string) apim.Digest {
	var b strings.Builder
	for _, c := range strings.ToUpper(typed) {
		if strings.ContainsRune(userCodeSet, c) {
			b.WriteRune(c)
		}
	}
	return apim.Digest(token.Digest("user code " + b.String()))
}

// deviceGrant answers a device that asks whether its user has decided.
func (k *KeyManager) deviceGrant(ctx context.Context, g *grantRequest) (*issued, error) {
	code := g.p["device_code"]
	if code == "" {
		return nil, invalidRequest("Missing parameters: device_code")
	}
	hash := apim.Digest(token.Digest(code))
	var d deviceDoc
	var tooSoon bool
	now := k.o.Now()
	refused := invalidGrant("Provided Authorization Grant is invalid")
	err := k.o.Ephemera.Change(ctx, apim.EphemeralDevice, hash, func(e *apim.Ephemeral) error {
		d = deviceDoc{}
		if err := json.Unmarshal(e.Doc, &d); err != nil {
			return fmt.Errorf("read device code: %w", err)
		}
		if e.Client != string(g.client.ID) || !e.Used.IsZero() {
			return refused
		}
		tooSoon = !d.Polled.IsZero() && now.Sub(d.Polled) < d.Wait
		d.Polled = now
		if tooSoon && d.State == devicePending {
			d.Wait = min(d.Wait+deviceInterval, time.Minute) // RFC 8628 §3.5
		}
		doc, err := json.Marshal(d)
		e.Doc = doc
		return err
	})
	if errors.Is(err, &fault.Missing) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	say := func(code, text string) error {
		return &oauthError{status: http.StatusBadRequest, code: code, text: text}
	}
	switch {
	case !now.Before(d.Ends):
		return nil, say("expired_token", "The device code has expired.")
	case d.State == deviceDenied:
		return nil, say("access_denied", "The user has denied the request.")
	case d.State != deviceApproved && tooSoon:
		return nil, say("slow_down", "The device asks too often.")
	case d.State != deviceApproved:
		return nil, say("authorization_pending", "The user has not decided yet.")
	}
	u, err := k.activeUser(ctx, d.User)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, refused
	}
	granted, err := k.grantScopes(ctx, g.client.Tenant, u.Tenant, k.o.Directory.RolesOf(u), d.Scopes)
	if err != nil {
		return nil, err
	}
	// Consumed first: whoever loses the race makes no token.
	if _, won, err := k.o.Ephemera.Use(ctx, apim.EphemeralDevice, hash, now); err != nil || !won {
		if err == nil || errors.Is(err, &fault.Missing) {
			err = refused
		}
		return nil, err
	}
	s := subject{client: g.client, userID: u.ID, tenant: u.Tenant}
	out, row, err := k.userTokens(ctx, s, u, granted, granted, "", "device_code")
	if err != nil {
		return nil, err
	}
	if row != nil {
		if err := k.o.Tokens.PutRefresh(ctx, row); err != nil {
			return nil, fmt.Errorf("store refresh token: %w", err)
		}
	}
	return out, nil
}
