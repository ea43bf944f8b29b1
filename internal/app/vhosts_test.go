package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// Virtual hosts and their certificates change while the gateway serves.
func TestVirtualHostsChangeWithoutARestart(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real binary")
	}
	offset, err := e2e.FreeOffset()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	home, conf := filepath.Join(dir, "home"), filepath.Join(dir, "conf.toml")
	if err := os.WriteFile(conf, []byte("[cardea.node]\nenvironments = [\"Default\", \"Edge\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := e2e.Start(t.Context(), e2e.Node{Home: home, Offset: offset, Args: []string{"--demo", "--config", conf}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	base := "https://localhost:" + strconv.Itoa(9443+offset)
	send := func(method, path string, want int, body any) map[string]any {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", "admin")
		req.Header.Set("Content-Type", "application/json")
		res, err := httpClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ = io.ReadAll(res.Body)
		if res.StatusCode != want {
			t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, b)
		}
		var out map[string]any
		_ = json.Unmarshal(b, &out) // a list is not looked at
		return out
	}
	edge := func(hosts ...string) map[string]any {
		var list []map[string]any
		for _, h := range hosts {
			list = append(list, map[string]any{"host": h, "httpPort": 8280, "httpsPort": 8243, "wsPort": 9099, "wssPort": 8099})
		}
		return map[string]any{"name": "Edge", "displayName": "Edge", "vhosts": list}
	}
	// get asks the gateway by a name, and believes the home's authority only.
	ca, err := os.ReadFile(filepath.Join(home, "certs", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	get := func(host string) (string, error) {
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+strconv.Itoa(8243+offset))
			},
		}
		res, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("https://" + host + "/edge/1.0/menu")
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		return fmt.Sprintf("%d over %s by %s", res.StatusCode, res.Proto, res.TLS.PeerCertificates[0].Issuer.CommonName), nil
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	good := func(host string) func() bool {
		return func() bool {
			got, err := get(host)
			return err == nil && got[:len("200 over HTTP/2.0")] == "200 over HTTP/2.0"
		}
	}
	unknown := func(host string) func() bool {
		return func() bool { _, err := get(host); return err != nil }
	}

	env := send("POST", "/api/am/admin/v4/environments", 201, edge("a.edge.test", "b.edge.test"))
	api := send("POST", "/api/am/publisher/v4/apis", 201, map[string]any{
		"name": "Edge", "version": "1.0", "context": "/edge", "policies": []string{"Unlimited"},
		"operations":     []map[string]any{{"target": "/menu", "verb": "GET", "authType": "None"}},
		"endpointConfig": map[string]any{"endpoint_type": "http", "production_endpoints": map[string]any{"url": base + "/am/sample/pizzashack/v1/api"}},
	})
	at := fmt.Sprintf("/api/am/publisher/v4/apis/%s", api["id"])
	rev := send("POST", at+"/revisions", 201, map[string]any{})
	send("POST", at+"/deploy-revision?revisionId="+fmt.Sprint(rev["id"]), 201, []map[string]any{{"name": "Edge", "vhost": "b.edge.test", "displayOnDevportal": true}})
	send("POST", "/api/am/publisher/v4/apis/change-lifecycle?action=Publish&apiId="+fmt.Sprint(api["id"]), 200, nil)
	eventually("the API does not answer on its virtual host", good("b.edge.test"))
	eventually("the first virtual host has no certificate", func() bool { _, err := get("a.edge.test"); return err == nil })
	if !unknown("c.edge.test")() {
		t.Fatal("a host that is none is vouched for")
	}

	// b becomes the first, c comes and a goes.
	send("PUT", fmt.Sprintf("/api/am/admin/v4/environments/%s", env["id"]), 200, edge("b.edge.test", "c.edge.test"))
	eventually("the new virtual host has no certificate", func() bool { _, err := get("c.edge.test"); return err == nil })
	eventually("the host that went is still vouched for", unknown("a.edge.test"))
	if !good("b.edge.test")() {
		t.Error("the API is lost")
	}

	// A certificate of the operator's own for it.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"*.edge.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	tmpl.Subject.CommonName = "Operator"
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	roots.AppendCertsFromPEM(own)
	hosts := filepath.Join(home, "certs", "hosts")
	if err := os.MkdirAll(hosts, 0o700); err != nil {
		t.Fatal(err)
	}
	own = append(own, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := os.WriteFile(filepath.Join(hosts, "edge.pem"), own, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually("the operator's certificate is not shown", func() bool {
		got, err := get("b.edge.test")
		return err == nil && got == "200 over HTTP/2.0 by Operator"
	})
	// SIGHUP has everything read at once, and ends nothing.
	if err := syscall.Kill(p.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually("SIGHUP is not heard", func() bool { return strings.Contains(p.Output(), "server certificate reloaded") })
	if !good("b.edge.test")() {
		t.Error("not served after SIGHUP")
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
