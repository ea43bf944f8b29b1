package foreign

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// TestHeadersOverHTTP2StayApart sends many calls with texts of equal length on
// one connection: header compression remembers them on both sides of the
// gateway, and must never take one for another.
func TestHeadersOverHTTP2StayApart(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("X-Path", r.URL.Path)
		w.Header().Set("X-Sent", r.Header.Get("X-Sent"))
	})
	c := client(t, true)
	calls := 2500
	if long {
		calls = 100000
	}
	for _, kind := range []struct{ name, contentType string }{
		{"HTTP/1.1 backend", "text/plain"},
		{"HTTP/2 backend", "application/grpc"}, // what makes a call go on over HTTP/2 without TLS
	} {
		t.Run(kind.name, func(t *testing.T) {
			_, path := w.publish(t, "Texts"+kind.contentType[:4], anything, goServer(t, handler, false))
			const workers = 5
			var group sync.WaitGroup
			for worker := range workers {
				group.Go(func() {
					for i := worker; i < calls; i += workers {
						want, sent := fmt.Sprintf("/p%04d", i*7919%61), fmt.Sprintf("v%04d", i*31%97)
						a, err := w.call(t.Context(), c, http.MethodPost, w.Gateway()+path+want, nil, "Content-Type", kind.contentType, "X-Sent", sent)
						if err != nil || a.Status != http.StatusOK || a.Header.Get("X-Path") != want || a.Header.Get("X-Sent") != sent || a.Header.Get("Content-Type") != kind.contentType {
							t.Errorf("call %d: %s %s is answered with %v %+v", i, want, sent, err, a)
							return
						}
					}
				})
			}
			group.Wait()
		})
	}
}
