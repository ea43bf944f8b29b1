package foreign

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLoad has wrk and h2load call for a moment: no call may fail, and every
// one must have been counted.
func TestLoad(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	duration := 2
	if long {
		duration = 60
	}
	var hits atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		sums(w, r)
	}))
	t.Cleanup(backend.Close)
	// publish makes an API of the backend whose calls are counted from none.
	publish := func(t *testing.T, name string) (id, path string) {
		id, path = w.publish(t, name, anything, backend.URL)
		hits.Store(0)
		return id, path
	}
	bearer := "Authorization: Bearer " + w.token

	for _, c := range []struct{ name, base string }{{"plain", w.Gateway()}, {"TLS", w.GatewayTLS()}} {
		t.Run("wrk "+c.name, func(t *testing.T) {
			program := needed(t, "wrk")
			id, path := publish(t, "Wrk"+c.name)
			out, said, err := run(t, time.Duration(duration+30)*time.Second, program, "-t2", "-c32", "--timeout", "30s", fmt.Sprintf("-d%ds", duration), "-H", bearer, c.base+path+"/a")
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, said)
			}
			if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
				t.Errorf("not all calls were answered:\n%s", out)
			}
			// When its time is over wrk leaves calls that are under way, one on
			// each connection, and does not count them; some were still begun.
			completed := number(t, out, `(\d+) requests in`)
			if seen := int(hits.Load()); completed < 100 || seen < completed || seen > completed+32 {
				t.Errorf("wrk completed %d calls, the backend saw %d", completed, seen)
			}
			w.countedBetween(t, id, completed, completed+32)
		})
	}
	for _, c := range []struct {
		name, base string
		args       []string
	}{
		{"2 TLS", w.GatewayTLS(), nil},
		{"2 plain", w.Gateway(), nil},
		{"1 TLS", w.GatewayTLS(), []string{"--h1"}},
	} {
		t.Run("h2load "+c.name, func(t *testing.T) {
			program := needed(t, "h2load")
			id, path := publish(t, "H2load"+strings.ReplaceAll(c.name, " ", ""))
			calls := 4000 * duration
			args := append([]string{"-t2", "-c8", "-m16", "-n", strconv.Itoa(calls), "-H", bearer}, c.args...)
			out, said, err := run(t, time.Duration(duration*20+30)*time.Second, program, append(args, c.base+path+"/a")...)
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, said)
			}
			want := fmt.Sprintf("requests: %d total, %d started, %d done, %d succeeded, 0 failed, 0 errored, 0 timeout", calls, calls, calls, calls)
			if !strings.Contains(out, want) || number(t, out, `status codes: (\d+) 2xx`) != calls {
				t.Errorf("not all calls were answered:\n%s%s", out, said)
			}
			if seen := int(hits.Load()); seen != calls {
				t.Errorf("the backend saw %d calls, want %d", seen, calls)
			}
			w.counted(t, id, calls, 0)
		})
	}
}

func number(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %q in:\n%s", pattern, text)
	}
	return must[int](t)(strconv.Atoi(m[1]))
}
