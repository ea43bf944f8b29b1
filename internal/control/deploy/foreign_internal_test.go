package deploy

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"reflect"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// TestForeignKeyManager looks at what gateways learn of one, and that its
// secrets reach them sealed as they are.
func TestForeignKeyManager(t *testing.T) {
	k := &apim.KeyManager{
		TokenType: "BOTH", Endpoints: map[string]string{"introspectionEndpoint": " https://i "},
		Properties: map[string]string{"client_id": "gw", "Username": "u"},
		Secrets:    map[string]apim.Sealed{"client_secret": "sealed", "Password": "other"},
		Extra: json.RawMessage(`{"enableSelfValidationJWT":false,"claimMapping":[{"remoteClaim":"a","localClaim":"b"}],"tokenValidation":[
			{"id":1,"enable":true,"type":"REGEX","value":"x.*"},{"enable":true,"type":"JWT","value":{"body":{"iss":"y"}}},{"enable":true,"type":"JWT","value":"{\"aud\":\"z\"}"},{"enable":false,"type":"CUSTOM"}]}`),
	}
	var got snapshot.KeyManager
	if err := foreign(k, &got); err != nil {
		t.Fatal(err)
	}
	want := snapshot.KeyManager{
		Online: true, Introspection: &snapshot.Introspection{URL: "https://i", User: "gw", Sealed: "sealed", Client: true}, Claims: map[string]string{"a": "b"},
		Rules: []snapshot.TokenRule{{Match: "x.*"}, {Claims: map[string]string{"iss": "y"}}, {Claims: map[string]string{"aud": "z"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	got = snapshot.KeyManager{}
	if err := foreign(&apim.KeyManager{TokenType: "EXCHANGED", Endpoints: map[string]string{"introspectionEndpoint": "none"}}, &got); err != nil || !reflect.DeepEqual(got, snapshot.KeyManager{Exchanged: true}) {
		t.Errorf("for exchange only: %+v, %v", got, err)
	}
}

// TestPinnedKeys: a certificate or a bare key, as PEM or in base64 of it.
func TestPinnedKeys(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for _, v := range []string{string(text), base64.StdEncoding.EncodeToString(text)} {
		certs, err := json.Marshal(map[string]string{"type": "PEM", "value": v})
		if err != nil {
			t.Fatal(err)
		}
		doc, url, err := foreignKeys(&apim.KeyManager{Certificates: certs})
		if err != nil || url != "" {
			t.Errorf("%s: %v", url, err)
			continue
		}
		set, err := token.ParseJWKS(doc)
		if err != nil || set.Len() != 1 || set.Keys()[0].ID != "" || set.Keys()[0].Alg != "EdDSA" {
			t.Errorf("%s: %v", doc, err)
		}
	}
}
