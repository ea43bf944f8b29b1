package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

const issuer = "https://localhost:9443/oauth2/token"

var now = time.Unix(1_800_000_000, 0).UTC()

func signer(t testing.TB, key crypto.Signer) *Signer {
	t.Helper()
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: now.AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(key, der)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var ecKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func good() *Claims {
	return &Claims{
		Issuer: issuer, Subject: "5b0c7f0e-2f6b-4a35-9c1e-8a1d2f3b4c5d", ID: "0f8fad5b-d9cb-469f-a165-70867728950e",
		Audience: []string{"cK3y"}, AuthorizedParty: "cK3y", ClientID: "cK3y", EntityID: "cK3y",
		Scope: "default", Aut: AutApplication, IssuedAt: now, NotBefore: now, Expires: now.Add(time.Hour),
	}
}

func verifier(t testing.TB, o Options, keys ...*Signer) *Verifier {
	t.Helper()
	var list []Key
	for _, s := range keys {
		list = append(list, s.Public())
	}
	set, err := NewKeySet(list...)
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(o)
	v.SetIssuers([]*Issuer{{Name: issuer, Keys: set}})
	return v
}

func mustSign(t testing.TB, s *Signer, c *Claims) string {
	t.Helper()
	raw, err := s.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSignedTokenHasTheHeaderAndClaimsOfTheOriginal(t *testing.T) {
	s := signer(t, rsaKey())
	raw := mustSign(t, s, good())
	seg := strings.Split(raw, ".")
	head, _ := base64.RawURLEncoding.DecodeString(seg[0])
	body, _ := base64.RawURLEncoding.DecodeString(seg[1])
	thumb := strings.TrimSuffix(s.KeyID(), "_RS256")
	if len(thumb) != 86 {
		t.Errorf("thumbprint has %d characters, want 86", len(thumb))
	}
	want := `{"kid":"` + thumb + `_RS256","x5t":"` + thumb + `","typ":"at+jwt","alg":"RS256"}`
	if string(head) != want {
		t.Errorf("header\n got %s\nwant %s", head, want)
	}
	want = `{"sub":"5b0c7f0e-2f6b-4a35-9c1e-8a1d2f3b4c5d","aut":"APPLICATION","aud":"cK3y","nbf":1800000000,"azp":"cK3y","entity_id":"cK3y","scope":"default","iss":"https://localhost:9443/oauth2/token","exp":1800003600,"iat":1800000000,"jti":"0f8fad5b-d9cb-469f-a165-70867728950e","client_id":"cK3y"}`
	if string(body) != want {
		t.Errorf("claims\n got %s\nwant %s", body, want)
	}
}

func TestVerifyAcceptsWhatWasSigned(t *testing.T) {
	for _, s := range []*Signer{signer(t, rsaKey()), signer(t, ecKey())} {
		t.Run(s.Algorithm(), func(t *testing.T) {
			v := verifier(t, Options{}, s)
			c := good()
			c.Audience = []string{"a", "b"}
			c.Subject = "Zoë \"q\"\n"
			c.Extra = map[string]json.RawMessage{"groups": json.RawMessage(`["x","y"]`)}
			raw := mustSign(t, s, c)
			for range 2 { // the second is a cache hit
				got, err := v.Verify(raw, now)
				if err != nil {
					t.Fatal(err)
				}
				if got.Subject != c.Subject || got.KeyID != s.KeyID() || got.Type != TypeAccess || len(got.Issuers) != 1 {
					t.Errorf("got %+v", got)
				}
				if text, _ := got.Text("groups"); text != "x y" {
					t.Errorf("groups %q", text)
				}
				if !got.Expires.Equal(c.Expires) || strings.Join(got.Audience, ",") != "a,b" {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
}

// forge signs any header and payload with the RSA key.
func forge(t testing.TB, head, body string) string {
	t.Helper()
	signed := b64([]byte(head)) + "." + b64([]byte(body))
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, rsaKey(), crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(sig)
}

func TestVerifyRefuses(t *testing.T) {
	s := signer(t, rsaKey())
	kid := `"kid":` + strconv.Quote(s.KeyID())
	body := string(good().append(nil))
	head := func(more string) string { return `{` + kid + `,"alg":"RS256"` + more + `}` }
	hmacToken := func() string {
		signed := b64([]byte(`{`+kid+`,"alg":"HS256"}`)) + "." + b64([]byte(body))
		m := hmac.New(sha256.New, x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey))
		m.Write([]byte(signed))
		return signed + "." + b64(m.Sum(nil))
	}
	ok := forge(t, head(""), body)
	part := strings.Split(ok, ".")
	flip := func(s string) string { // another spelling of the same bytes
		last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", s[len(s)-1])
		return s[:len(s)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1])
	}
	edit := func(from, to string) string { return strings.Replace(body, from, to, 1) }
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"nothing", "", ErrMalformed},
		{"two segments", part[0] + "." + part[1], ErrMalformed},
		{"four segments", ok + ".x", ErrMalformed},
		{"no signature", part[0] + "." + part[1] + ".", ErrMalformed},
		{"padding", part[0] + "=." + part[1] + "." + part[2], ErrMalformed},
		{"line break inside a segment", part[0] + "." + part[1][:8] + "\n" + part[1][8:] + "." + part[2], ErrMalformed},
		{"non-canonical signature", part[0] + "." + part[1] + "." + flip(part[2]), ErrMalformed},
		{"another signature", part[0] + "." + part[1] + "." + "A" + part[2][1:], ErrSignature},
		{"claims changed", part[0] + "." + b64([]byte(edit("default", "admin"))) + "." + part[2], ErrSignature},
		{"too long", ok + strings.Repeat("A", DefaultMaxLength), ErrTooLong},
		{"alg none", b64([]byte(`{"alg":"none"}`)) + "." + part[1] + ".AA", ErrUnknownKeyOrAlg},
		{"alg none with kid", b64([]byte(`{`+kid+`,"alg":"none"}`)) + "." + part[1] + ".AA", ErrAlgorithm},
		{"HMAC with the public key", hmacToken(), ErrAlgorithm},
		{"another algorithm of the same key", forge(t, `{`+kid+`,"alg":"RS512"}`, body), ErrAlgorithm},
		{"no alg", forge(t, `{`+kid+`}`, body), ErrMalformed},
		{"alg of a wrong type", forge(t, `{`+kid+`,"alg":["RS256"]}`, body), ErrMalformed},
		{"unknown kid", forge(t, `{"kid":"other","alg":"RS256"}`, body), ErrUnknownKey},
		{"embedded jwk", forge(t, head(`,"jwk":{"kty":"RSA"}`), body), ErrMalformed},
		{"jku", forge(t, head(`,"jku":"https://evil"`), body), ErrMalformed},
		{"x5u", forge(t, head(`,"x5u":"https://evil"`), body), ErrMalformed},
		{"x5c", forge(t, head(`,"x5c":["AA"]`), body), ErrMalformed},
		{"crit", forge(t, head(`,"crit":["exp"]`), body), ErrMalformed},
		{"b64", forge(t, head(`,"b64":false`), body), ErrMalformed},
		{"duplicate header member", forge(t, head(`,"alg":"RS256"`), body), ErrMalformed},
		{"duplicate claim", forge(t, head(""), edit(`{`, `{"iss":"x",`)), ErrMalformed},
		{"duplicate claim, escaped", forge(t, head(""), edit(`{`, `{"\u0069ss":"x",`)), ErrMalformed},
		{"duplicate inside a claim", forge(t, head(""), edit(`{`, `{"x":[{"a":1,"a":2}],`)), ErrMalformed},
		{"data after the claims", forge(t, head(""), body+`{}`), ErrMalformed},
		{"claims no object", forge(t, head(""), `["a"]`), ErrMalformed},
		{"claims a text", forge(t, head(""), `"a"`), ErrMalformed},
		{"claims null", forge(t, head(""), `null`), ErrMalformed},
		{"claims not UTF-8", forge(t, head(""), edit("cK3y", "c\xff")), ErrMalformed},
		{"claims nested deeply", forge(t, head(""), edit(`{`, `{"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,`)), ErrMalformed},
		{"iss of a wrong type", forge(t, head(""), edit(`"iss":"`+issuer+`"`, `"iss":["`+issuer+`"]`)), ErrMalformed},
		{"exp a text", forge(t, head(""), edit("1800003600", `"1800003600"`)), ErrMalformed},
		{"exp negative", forge(t, head(""), edit("1800003600", `-1`)), ErrMalformed},
		{"exp null", forge(t, head(""), edit("1800003600", `null`)), ErrMalformed},
		{"no exp", forge(t, head(""), edit(`"exp":1800003600,`, ``)), ErrExpired},
		{"no iss", forge(t, head(""), edit(`"iss":"`+issuer+`",`, ``)), ErrIssuer},
		{"another iss", forge(t, head(""), edit("9443", "9444")), ErrIssuer},
		{"expired", forge(t, head(""), edit("1800003600", "1800000000")), ErrExpired},
		{"not yet valid", forge(t, head(""), edit(`"nbf":1800000000`, `"nbf":1800000001`)), ErrNotYet},
		{"aud holds null", forge(t, head(""), edit(`"aud":"cK3y"`, `"aud":[null]`)), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := verifier(t, Options{}, s, signer(t, ecKey()))
			got, err := v.Verify(c.raw, now)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if c.want == ErrUnknownKeyOrAlg {
				if !errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrAlgorithm) {
					t.Errorf("got %v", err)
				}
			} else if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if _, err := verifier(t, Options{}, s).Verify(ok, now); err != nil {
		t.Errorf("the token all others were made of is refused: %v", err)
	}
}

// ErrUnknownKeyOrAlg stands for either refusal in the table above.
var ErrUnknownKeyOrAlg = errors.New("either")

func TestSkewIsToleratedAndBounded(t *testing.T) {
	s := signer(t, ecKey())
	raw := mustSign(t, s, good())
	v := verifier(t, Options{Skew: time.Minute}, s)
	for at, want := range map[time.Duration]error{
		-time.Minute: nil, -time.Minute - time.Second: ErrNotYet,
		time.Hour + 59*time.Second: nil, time.Hour + time.Minute: ErrExpired,
	} {
		if _, err := v.Verify(raw, now.Add(at)); !errors.Is(err, want) {
			t.Errorf("at %v: got %v, want %v", at, err, want)
		}
	}
	long := verifier(t, Options{Skew: 24 * time.Hour}, s)
	if _, err := long.Verify(raw, now.Add(time.Hour+MaxSkew)); !errors.Is(err, ErrExpired) {
		t.Errorf("skew is not bounded: %v", err)
	}
}

func TestCacheHitStillExpires(t *testing.T) {
	s := signer(t, ecKey())
	v := verifier(t, Options{}, s)
	raw := mustSign(t, s, good())
	if _, err := v.Verify(raw, now); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(raw, now.Add(time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v, want expired", err)
	}
}

func TestCacheForgetsKeysThatAreGone(t *testing.T) {
	a, b := signer(t, ecKey()), signer(t, rsaKey())
	v := verifier(t, Options{}, a)
	raw := mustSign(t, a, good())
	if _, err := v.Verify(raw, now); err != nil {
		t.Fatal(err)
	}
	set, _ := NewKeySet(b.Public())
	v.SetIssuers([]*Issuer{{Name: issuer, Keys: set}})
	if _, err := v.Verify(raw, now); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v, want unknown key", err)
	}
	v.SetIssuers(nil)
	if _, err := v.Verify(raw, now); !errors.Is(err, ErrIssuer) {
		t.Errorf("got %v, want unknown issuer", err)
	}
}

func TestCacheIsBoundedAndExact(t *testing.T) {
	c := newCache(64)
	if len(c.slots) != 64 {
		t.Fatalf("%d slots, want 64", len(c.slots))
	}
	for i := range 10_000 {
		raw := strconv.Itoa(i)
		h := c.hash(raw)
		c.put(h, &entry{raw: raw}, now)
		if e := c.get(h, raw); e == nil || e.raw != raw {
			t.Fatalf("entry %d is not found after it was put", i)
		}
		if e := c.get(h, raw+"x"); e != nil {
			t.Fatalf("another token is found under the same hash")
		}
	}
}

func TestIssuersOfTheSameNameAreKeptApart(t *testing.T) {
	a, b := signer(t, ecKey()), signer(t, rsaKey())
	setA, _ := NewKeySet(a.Public())
	setB, _ := NewKeySet(b.Public())
	one, two, both := &Issuer{Name: issuer, Keys: setA}, &Issuer{Name: issuer, Keys: setB}, &Issuer{Name: issuer, Keys: setA, Audience: []string{"else"}}
	v := NewVerifier(Options{})
	v.SetIssuers([]*Issuer{one, two, both})
	got, err := v.Verify(mustSign(t, b, good()), now)
	if err != nil || len(got.Issuers) != 1 || got.Issuers[0] != two {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err = v.Verify(mustSign(t, a, good()), now)
	if err != nil || len(got.Issuers) != 1 || got.Issuers[0] != one {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAudienceAndTypeAreCheckedWhereAsked(t *testing.T) {
	s := signer(t, ecKey())
	set, _ := NewKeySet(s.Public())
	raw := mustSign(t, s, good())
	for _, c := range []struct {
		name string
		iss  Issuer
		want error
	}{
		{"audience fits", Issuer{Audience: []string{"x", "cK3y"}}, nil},
		{"audience differs", Issuer{Audience: []string{"x"}}, ErrAudience},
		{"type fits in another case", Issuer{Types: []string{"AT+JWT"}}, nil},
		{"type differs", Issuer{Types: []string{"JWT"}}, ErrType},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.iss.Name, c.iss.Keys = issuer, set
			v := NewVerifier(Options{})
			v.SetIssuers([]*Issuer{&c.iss})
			if _, err := v.Verify(raw, now); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestKeySetRoundTrip(t *testing.T) {
	a, b := signer(t, rsaKey()), signer(t, ecKey())
	set, err := NewKeySet(a.Public(), b.Public())
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseJWKS(set.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(Options{CacheSize: -1})
	v.SetIssuers([]*Issuer{{Name: issuer, Keys: back}})
	for _, s := range []*Signer{a, b} {
		if _, err := v.Verify(mustSign(t, s, good()), now); err != nil {
			t.Errorf("%s: %v", s.Algorithm(), err)
		}
	}
	if string(back.JWKS()) != string(set.JWKS()) {
		t.Error("key set changes when it is read and written")
	}
}

func TestParseJWKSKeepsOnlyWhatCanVerify(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no weak keys")
	}
	n := b64(weak.N.Bytes())
	strong := b64(rsaKey().N.Bytes())
	for _, c := range []struct {
		name, key string
		want      bool
	}{
		{"strong", `{"kty":"RSA","kid":"a","e":"AQAB","n":"` + strong + `"}`, true},
		{"weak", `{"kty":"RSA","kid":"a","e":"AQAB","n":"` + n + `"}`, false},
		{"exponent 1", `{"kty":"RSA","kid":"a","e":"AQ","n":"` + strong + `"}`, false},
		{"for encryption", `{"kty":"RSA","kid":"a","use":"enc","e":"AQAB","n":"` + strong + `"}`, false},
		{"operations without verify", `{"kty":"RSA","kid":"a","key_ops":["sign"],"e":"AQAB","n":"` + strong + `"}`, false},
		{"symmetric", `{"kty":"oct","kid":"a","k":"AAAA","alg":"HS256"}`, false},
		{"RSA pinned to HMAC", `{"kty":"RSA","kid":"a","alg":"HS256","e":"AQAB","n":"` + strong + `"}`, false},
		{"RSA pinned to none", `{"kty":"RSA","kid":"a","alg":"none","e":"AQAB","n":"` + strong + `"}`, false},
		{"point not on the curve", `{"kty":"EC","crv":"P-256","kid":"a","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := ParseJWKS([]byte(`{"keys":[` + c.key + `]}`))
			if got := err == nil && set.Len() == 1; got != c.want {
				t.Errorf("usable %v, want %v (%v)", got, c.want, err)
			}
		})
	}
	if _, err := ParseJWKS([]byte(`{"keys":[]}`)); err == nil {
		t.Error("an empty key set is accepted")
	}
}

func TestIssuedAtHasMillisecondsOfOurOwnIDs(t *testing.T) {
	s := signer(t, ecKey())
	v := verifier(t, Options{}, s)
	at := now.Add(789 * time.Millisecond)
	id, _ := uuid.NewV7()
	c := good()
	c.ID, c.IssuedAt = StampID(id, at).String(), Seconds(at)
	got, err := v.Verify(mustSign(t, s, c), at)
	if err != nil {
		t.Fatal(err)
	}
	if !got.IssuedAt.Equal(at) {
		t.Errorf("issued at %v, want %v", got.IssuedAt, at)
	}
	c.ID = StampID(id, at.Add(time.Hour)).String() // an id that contradicts iat is not believed
	if got, _ = v.Verify(mustSign(t, s, c), at); !got.IssuedAt.Equal(now) {
		t.Errorf("issued at %v, want %v", got.IssuedAt, now)
	}
}

func TestAPIKeysAndSecrets(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		k, s := NewAPIKey(), NewSecret()
		if len(k) != APIKeyLen || len(s) != 28 || seen[k] || seen[s] {
			t.Fatalf("key %q secret %q", k, s)
		}
		seen[k], seen[s] = true, true
	}
	if got, want := Digest("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVerifyWhileIssuersChange(t *testing.T) {
	s := signer(t, ecKey())
	set, _ := NewKeySet(s.Public())
	v := NewVerifier(Options{CacheSize: 8})
	v.SetIssuers([]*Issuer{{Name: issuer, Keys: set}})
	raw := mustSign(t, s, good())
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := v.Verify(raw, now); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 200 {
		v.SetIssuers([]*Issuer{{Name: issuer, Keys: set}})
	}
	close(stop)
	wg.Wait()
}

func TestCacheHitDoesNotAllocate(t *testing.T) {
	s := signer(t, ecKey())
	v := verifier(t, Options{}, s)
	raw := mustSign(t, s, good())
	v.Verify(raw, now)
	if n := testing.AllocsPerRun(100, func() { v.Verify(raw, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzVerify(f *testing.F) {
	s := signer(f, ecKey())
	raw, err := s.Sign(good())
	if err != nil {
		f.Fatal(err)
	}
	v := verifier(f, Options{}, s)
	part := strings.Split(raw, ".")
	f.Add(raw)
	f.Add(part[0] + "." + part[1] + ".")
	f.Add(b64([]byte(`{"alg":"none"}`)) + "." + part[1] + ".AA")
	f.Add(part[0] + "." + b64([]byte(`{"iss":1e999}`)) + "." + part[2])
	f.Add("eyJ.eyJ.")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := v.Verify(in, now)
		if err == nil && in != raw {
			t.Fatalf("a token nobody signed is accepted: %q %+v", in, got)
		}
		if err != nil && got != nil {
			t.Fatal("claims of a refused token")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, s := range []*Signer{signer(b, rsaKey()), signer(b, ecKey())} {
		raw := mustSign(b, s, good())
		b.Run(s.Algorithm()+"/hit", func(b *testing.B) {
			v := verifier(b, Options{}, s)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(raw, now); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.Algorithm()+"/miss", func(b *testing.B) {
			v := verifier(b, Options{CacheSize: -1}, s)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(raw, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	for _, s := range []*Signer{signer(b, rsaKey()), signer(b, ecKey())} {
		c := good()
		b.Run(s.Algorithm(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustSign(b, s, c)
			}
		})
	}
}

func TestRememberedTokensAreVerifiedAnewInTime(t *testing.T) {
	s := signer(t, ecKey())
	for ttl, again := range map[time.Duration]bool{0: false, time.Minute: true} {
		v := verifier(t, Options{CacheTTL: ttl}, s)
		raw := mustSign(t, s, good())
		first, err := v.Verify(raw, now)
		if err != nil {
			t.Fatal(err)
		}
		if soon, err := v.Verify(raw, now.Add(30*time.Second)); err != nil || soon != first {
			t.Errorf("after %s: verified again within it, or %v", ttl, err)
		}
		if late, err := v.Verify(raw, now.Add(90*time.Second)); err != nil || (late != first) != again {
			t.Errorf("after %s: verified again %v, want %v (%v)", ttl, late != first, again, err)
		}
	}
}
