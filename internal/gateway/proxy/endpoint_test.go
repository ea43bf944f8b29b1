package proxy

import (
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

func TestEndpointsThatDoNotCompile(t *testing.T) {
	open := func(s string) ([]byte, error) { return []byte(s), nil }
	for name, s := range map[string]snapshot.Endpoint{
		"no scheme":         {URL: "backend/path"},
		"another scheme":    {URL: "ftp://backend"},
		"no host":           {URL: "http:///path"},
		"malformed":         {URL: "http://[::1"},
		"secret is no JSON": {URL: "http://b", Sealed: "x"},
		"unknown security":  {URL: "http://b", Sealed: `{"type":"DIGEST"}`},
		"key without name":  {URL: "http://b", Sealed: `{"type":"APIKEY"}`},
	} {
		if _, err := newEndpoint(s, open, time.Second); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
	if _, err := newEndpoint(snapshot.Endpoint{URL: "http://b", Sealed: "{}"}, nil, time.Second); err == nil {
		t.Error("sealed without a key: compiled")
	}
}

func TestEndpointDefaults(t *testing.T) {
	for _, c := range []struct {
		in            snapshot.Endpoint
		addr, url     string
		timeout       time.Duration
		authorization string
	}{
		{snapshot.Endpoint{URL: "http://b"}, "b:80", "http://b", time.Second, ""},
		{snapshot.Endpoint{URL: "HTTPS://b/x/"}, "b:443", "https://b/x", time.Second, ""},
		{snapshot.Endpoint{URL: "http://[::1]:81/x%2Fy", Timeout: time.Minute}, "[::1]:81", "http://[::1]:81/x%2Fy", time.Minute, ""},
		{snapshot.Endpoint{URL: "http://u:p@b", OnTimeout: "never"}, "b:80", "http://b", never, "Basic dTpw"},
	} {
		e, err := newEndpoint(c.in, nil, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if e.addr != c.addr || e.URL() != c.url || e.timeout != c.timeout || e.authorization != c.authorization {
			t.Errorf("%s: %s %s %v %q", c.in.URL, e.addr, e.URL(), e.timeout, e.authorization)
		}
	}
}

func TestSuspensionGrowsToItsBoundAndEndsWithSuccess(t *testing.T) {
	e, err := newEndpoint(snapshot.Endpoint{URL: "http://b", Suspend: time.Second, SuspendMax: 3 * time.Second, SuspendFactor: 2}, nil, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	for _, want := range []time.Duration{1, 2, 3, 3} {
		e.failed(now)
		if d := want * time.Second; !e.suspended(now.Add(d-1)) || e.suspended(now.Add(d)) {
			t.Errorf("not suspended for %v", d)
		}
	}
	e.worked()
	if e.suspended(now) {
		t.Error("suspended after a success")
	}
	e.failed(now)
	if e.suspended(now.Add(time.Second)) {
		t.Error("the length was not forgotten")
	}
}

func TestWhatIsGRPC(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC;x=y": true, "application/grpc-web": false,
		"application/grpc-web+proto": false, "application/grpcx": false, "application/json": false, "": false,
	} {
		if grpc(kind) != want {
			t.Errorf("%q: %v", kind, !want)
		}
	}
}
