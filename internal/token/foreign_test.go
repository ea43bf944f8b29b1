package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestIntrospected(t *testing.T) {
	for _, doc := range []string{
		`{"active":false}`, `{"active":false,"token_type":"Bearer","sub":"a"}`,
		`{"active":true}`, `{"active":true,"token_type":"refresh_token"}`, `{"active":true,"typ":"Refresh"}`, `{"active":true,"typ":"ID"}`,
		`{"active":true,"token_type":"Bearer","cnf":{"jkt":"x"}}`, `{"active":true,"token_type":"DPoP"}`,
	} {
		if c, err := Introspected([]byte(doc)); !errors.Is(err, ErrInactive) {
			t.Errorf("%s: %+v, %v", doc, c, err)
		}
	}
	for _, doc := range []string{``, `[]`, `null`, `{}`, `{"active":"true"}`, `{"active":1}`, `{"active":true,"active":false}`, `{"active":true,"token_type":"Bearer","exp":"soon"}`, `{"active":true} x`} {
		if c, err := Introspected([]byte(doc)); err == nil || errors.Is(err, ErrInactive) {
			t.Errorf("%s: %+v, %v", doc, c, err)
		}
	}
	c, err := Introspected([]byte(`{"active":true,"token_type":"bearer","username":"u","client_id":"c","scope":"a b","exp":99,"groups":["x"]}`))
	if err != nil || c.Subject != "u" || c.ClientID != "c" || !c.HasScope("b") || c.Expires.Unix() != 99 || c.Type != TypeAccess || c.TokenType != "" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, ok := c.Extra["active"]; ok || string(c.Extra["groups"]) != `["x"]` {
		t.Errorf("extra %v", c.Extra)
	}
}

func TestPeek(t *testing.T) {
	for _, bad := range []string{"", "a.b.c", "ey.ey.ey", strings.Repeat("e", DefaultMaxLength+1)} {
		if c, err := Peek(bad); err == nil {
			t.Errorf("%.20q: %+v", bad, c)
		}
	}
}

// TestPinnedKey: a certificate that was given with an issuer is its key,
// whatever the issuer calls it; a key of a fetched set is only its own.
func TestPinnedKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(key, []byte("certificate"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.Sign(&Claims{Type: TypeAccess, Issuer: "i", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]error{"": nil, s.Public().ID: nil, "another": ErrUnknownKey} {
		k := s.Public()
		k.ID = id
		set, err := NewKeySet(k)
		if err != nil {
			t.Fatal(err)
		}
		v := NewVerifier(Options{})
		v.SetIssuers([]*Issuer{{Name: "i", Keys: set}})
		if _, err := v.Verify(raw, time.Now()); !errors.Is(err, want) {
			t.Errorf("id %q: %v, want %v", id, err, want)
		}
	}
}
