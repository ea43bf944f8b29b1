// Package crashtest proves that a store keeps what it acknowledged: a child
// process writes and names every acknowledged write, the parent kills it with
// SIGKILL somewhere in the middle, opens the store again and looks for each.
package crashtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store"
)

const childURL = "CARDEA_CRASHTEST_URL"

// Writes is how many writes the child would make if it were left alone.
const Writes = 1000

// Main is called by TestMain of a package that uses Run: in the child it does
// the writing and does not return.
func Main() {
	url := os.Getenv(childURL)
	if url == "" {
		return
	}
	if err := write(context.Background(), url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// write makes Writes writes from several goroutines, single ones and
// transactions of two, and prints the id of each after its acknowledgement.
func write(ctx context.Context, url string) error {
	db, err := store.Open(ctx, url, store.Options{Sweep: -1})
	if err != nil {
		return err
	}
	const writers = 8
	s := apim.In(apim.SuperTenant)
	errs := make(chan error, writers)
	var out sync.Mutex
	for w := range writers {
		go func() {
			errs <- func() error {
				for i := range Writes / writers {
					one, two := application(w, i, "a"), application(w, i, "b")
					if i%2 == 0 {
						two = nil
					}
					err := db.InTx(ctx, func(ctx context.Context) error {
						if err := db.Applications.Create(ctx, s, one); err != nil || two == nil {
							return err
						}
						return db.Applications.Create(ctx, s, two)
					})
					if err != nil {
						return err
					}
					line := string(one.ID)
					if two != nil {
						line += " " + string(two.ID)
					}
					out.Lock()
					_, err = fmt.Println(line) // a pipe: it outlives us once written
					out.Unlock()
					if err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			return err
		}
	}
	return db.Close()
}

func application(w, i int, half string) *apim.Application {
	return &apim.Application{Owner: fmt.Sprint("writer", w), Name: fmt.Sprint(i, half), Description: strings.Repeat("x", 200)}
}

// Run kills a child that writes to the store of the URL and checks that every
// acknowledged write is there afterwards, whole, with its change, and that
// nothing half-written is. It returns how many had been acknowledged.
func Run(t *testing.T, url string) int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childURL+"="+url)
	var stderr strings.Builder
	child.Stderr = &stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acked := readUntil(pipe, 1+rand.IntN(Writes*6/10), func() {
		time.Sleep(time.Duration(rand.Int64N(int64(5 * time.Millisecond)))) // anywhere within a commit
		_ = child.Process.Kill()
	})
	_ = child.Wait() // killed, as it should be
	if len(acked) == 0 {
		t.Fatalf("the child wrote nothing: %s", stderr.String())
	}

	ctx := t.Context()
	db, err := store.Open(ctx, url, store.Options{Sweep: -1})
	if err != nil {
		t.Fatalf("open after the kill: %v", err)
	}
	defer db.Close()
	s := apim.In(apim.SuperTenant)
	page, err := db.Applications.List(ctx, s, apim.Query{})
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	halves := map[string]bool{}
	for _, a := range page.Items {
		stored[string(a.ID)] = true
		halves[a.Owner+"/"+a.Name] = true
	}
	for _, id := range acked {
		if !stored[id] {
			t.Errorf("acknowledged write %s is lost", id)
		}
	}
	for name := range halves {
		if b, ok := strings.CutSuffix(name, "b"); ok && !halves[b+"a"] {
			t.Errorf("half of transaction %s is there", b)
		}
	}
	pending, err := db.Log.Pending(ctx, 10*Writes)
	if err != nil {
		t.Fatal(err)
	}
	if len(pending) != len(stored) {
		t.Errorf("%d changes for %d writes", len(pending), len(stored))
	}
	if err := db.Applications.Create(ctx, s, application(99, 0, "a")); err != nil {
		t.Errorf("write after the kill: %v", err)
	}
	return len(acked)
}

// readUntil collects ids, calls kill after n lines and reads what was still
// written until the end.
func readUntil(r io.Reader, n int, kill func()) (ids []string) {
	lines := bufio.NewScanner(r)
	count := 0
	for lines.Scan() {
		ids = append(ids, strings.Fields(lines.Text())...)
		if count++; count == n {
			go kill()
		}
	}
	return ids
}
