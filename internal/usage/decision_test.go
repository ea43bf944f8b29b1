package usage

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var decisionKey = []byte("0123456789abcdef0123456789abcdef")

func TestDecisionIDTellsItsFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 16, 64)
		f := DecisionFacts{
			Time:    time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "time")).UTC(),
			Gateway: text.Draw(t, "gateway"), API: text.Draw(t, "api"), Tenant: text.Draw(t, "tenant"), Rule: text.Draw(t, "rule"),
			Status: rapid.IntRange(100, 599).Draw(t, "status"), Code: rapid.IntRange(0, 1e6).Draw(t, "code"),
		}
		id := SealDecision(decisionKey, f)
		if strings.ContainsAny(id, "+/= ") {
			t.Fatalf("id %q is not URL-safe", id)
		}
		got, err := OpenDecision(decisionKey, id)
		if err != nil || got != f {
			t.Fatalf("got %+v, %v; want %+v", got, err, f)
		}
	})
}

func TestDecisionIDThatWasTouchedIsRefused(t *testing.T) {
	id := SealDecision(decisionKey, DecisionFacts{Time: time.UnixMilli(1), Gateway: "g", Status: 429, Code: 900803, Rule: "application-limit"})
	for i := range id {
		c := byte('A')
		if id[i] == 'A' {
			c = 'B'
		}
		if f, err := OpenDecision(decisionKey, id[:i]+string(c)+id[i+1:]); err == nil {
			t.Errorf("changed at %d: opened as %+v", i, f)
		}
	}
	if _, err := OpenDecision([]byte("another key of 32 bytes.........."), id); !errors.Is(err, ErrDecisionSeal) {
		t.Errorf("other key: %v, want ErrDecisionSeal", err)
	}
	for _, bad := range []string{"", "x", id + "A", id[:len(id)-4], strings.Repeat("A", 2000)} {
		if _, err := OpenDecision(decisionKey, bad); err == nil {
			t.Errorf("%.20q: opened", bad)
		}
	}
}

func TestDecisionIDCutsLongTextAndStaysReadable(t *testing.T) {
	id := SealDecision(decisionKey, DecisionFacts{Rule: strings.Repeat("r", 1000), API: strings.Repeat("a", 1000)})
	f, err := OpenDecision(decisionKey, id)
	if err != nil || len(f.Rule) != 64 || len(f.API) != 64 {
		t.Fatalf("got %+v, %v", f, err)
	}
}
