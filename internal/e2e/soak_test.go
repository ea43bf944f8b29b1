package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Ten minutes of calls, refusals and changes leave memory and file handles
// where they were after the first minute. It runs with CARDEA_LONG only.
func TestSoak(t *testing.T) {
	if os.Getenv("CARDEA_LONG") == "" {
		t.Skip("CARDEA_LONG is not set")
	}
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	c := admin(t, p)
	appPolicy(t, c, "Soak", 600, "min")
	_, token := securedAPI(t, c, "soak", backend.URL, "Soak")

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var calls, odd atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := Call(ctx, http.MethodGet, p.Gateway()+"/soak/1.0.0/a", token, nil)
				calls.Add(1)
				if ctx.Err() == nil && (err != nil || a.Status != http.StatusOK && a.Status != http.StatusTooManyRequests) {
					odd.Add(1)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			id, err := c.Import(ctx, openAPI(fmt.Sprintf("Churn%d", i), backend.URL))
			if err == nil {
				err = c.Publish(ctx, id)
			}
			if err == nil {
				err = c.Must(ctx, http.StatusOK, http.MethodDelete, Publisher+"/apis/"+id, nil, nil)
			}
			if err != nil && ctx.Err() == nil {
				odd.Add(1)
				t.Log(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	time.Sleep(2 * time.Minute)
	memory, files := residentMB(t, p.Pid()), openFiles(t, p.Pid())
	wg.Wait()
	t.Logf("%d calls; memory %d MB then %d MB, open files %d then %d", calls.Load(), memory, residentMB(t, p.Pid()), files, openFiles(t, p.Pid()))
	if n := odd.Load(); n > 0 {
		t.Errorf("%d calls or changes failed", n)
	}
	if now := residentMB(t, p.Pid()); now > memory+memory/2+20 {
		t.Errorf("memory grew from %d MB to %d MB", memory, now)
	}
	if now := openFiles(t, p.Pid()); now > files+20 {
		t.Errorf("open files grew from %d to %d", files, now)
	}
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	ok(t, err)
	return len(list)
}
