package identity

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestHashesKeepTheirOwnCost(t *testing.T) {
	h := newHasher(Hashing{Memory: 64, Time: 1, Threads: 1}, 1)
	d, err := h.hash(t.Context(), "pässword")
	if err != nil {
		t.Fatal(err)
	}
	dearer := newHasher(Hashing{Memory: 128, Time: 2, Threads: 2}, 1)
	if !dearer.matches(d, "pässword") || dearer.matches(d, "password") {
		t.Error("a hash of another cost is not checked")
	}
	again, _ := h.hash(t.Context(), "pässword")
	if again == d {
		t.Error("the same password gives the same hash")
	}
}

func TestDamagedHashesMatchNothing(t *testing.T) {
	h := newHasher(Hashing{Memory: 64, Time: 1, Threads: 1}, 1)
	good, err := h.hash(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]apim.Digest{
		"empty":          "",
		"plain":          "x",
		"other kind":     "sha256:00",
		"cut":            good[:len(good)-30],
		"no salt":        apim.Digest(strings.Replace(string(good), "$m=", "$$m=", 1)),
		"huge memory":    "argon2id:v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"no passes":      "argon2id:v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"no parallelism": "argon2id:v=19$m=64,t=1,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		if h.matches(d, "x") {
			t.Errorf("%s matches", name)
		}
	}
}

func TestProofsAreBounded(t *testing.T) {
	p := newProofs()
	for i := range maxProofs + 10 {
		u := &apim.User{ID: apim.UserID(strings.Repeat("x", i%7) + string(rune(i)))}
		p.add(p.mac(u, "x"), time.Unix(1_800_000_000, 0))
	}
	if len(p.good) > maxProofs {
		t.Errorf("%d proofs are kept", len(p.good))
	}
}

func TestFailuresAreBounded(t *testing.T) {
	g := newGuard()
	at := time.Unix(1_800_000_000, 0)
	for i := range maxSeen {
		g.failed("user"+strconv.Itoa(i), "203.0.113.1", at)
	}
	if len(g.seen) > maxSeen {
		t.Errorf("%d failures are kept", len(g.seen))
	}
}

func TestDelaysGrowToALimit(t *testing.T) {
	g := newGuard()
	at := time.Unix(1_800_000_000, 0)
	want := []time.Duration{0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}
	for i, seconds := range want {
		g.failed("a", "127.0.0.1", at)
		if got := g.wait("a", "127.0.0.1", at); got != seconds*time.Second {
			t.Errorf("after %d failures: %v, want %v s", i+1, got, int(seconds))
		}
	}
	at = at.Add(forgetAfter + time.Second)
	g.failed("a", "127.0.0.1", at)
	if got := g.wait("a", "127.0.0.1", at); got != 0 {
		t.Errorf("failures are not forgotten: %v", got)
	}
}
