package devportal_test

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/api/devportal"
)

// together sends n equal requests at once and counts the answers by status.
func (w *world) together(n int, user, method, path, body string) map[int]int {
	got := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			r := httptest.NewRequest(method, devportal.Base+path, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+user)
			if body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			rec := httptest.NewRecorder()
			w.h.ServeHTTP(rec, r)
			mu.Lock()
			defer mu.Unlock()
			got[rec.Code]++
		})
	}
	wg.Wait()
	return got
}

func TestOneWinnerOfEveryRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api("pizza", nil)
	in := apim.In(apim.SuperTenant)

	if got := w.together(20, "alice", "GET", "/applications", ""); got[200] != 20 {
		t.Fatalf("first calls: %v", got)
	}
	if n, err := w.db.Applications.Count(t.Context(), in, apim.Where("owner", "alice")); n != 1 || err != nil {
		t.Errorf("%d default applications: %v", n, err)
	}
	if got := w.together(20, "bob", "POST", "/applications", `{"name":"shop","throttlingPolicy":"Unlimited"}`); got[201] != 1 || got[409] != 19 {
		t.Errorf("applications of one name: %v", got)
	}
	id := w.app("alice", "shop")
	if got := w.together(20, "alice", "POST", "/subscriptions", `{"applicationId":"`+id+`","apiId":"pizza","throttlingPolicy":"Gold"}`); got[201] != 1 || got[409] != 19 {
		t.Errorf("subscriptions: %v", got)
	}
	if got := w.together(20, "alice", "POST", "/applications/"+id+"/reset-throttle-policy", `{"userName":"x"}`); got[200] != 20 {
		t.Errorf("lost races reached the caller: %v", got)
	}
}
