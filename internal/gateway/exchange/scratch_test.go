package exchange

import (
	"strings"
	"testing"
)

func TestScratchKeepsEveryTextOfACall(t *testing.T) {
	var s Scratch
	for range 3 {
		var texts []string
		for i := range 40 {
			b := s.Begin()
			for range i * 20 {
				b = append(b, byte('a'+i%26))
			}
			texts = append(texts, s.End(b))
		}
		for i, text := range texts {
			if want := strings.Repeat(string(rune('a'+i%26)), i*20); text != want {
				t.Fatalf("text %d is %q, want %q", i, text, want)
			}
		}
		s.Reset()
	}
	for range 10 {
		s.End(append(s.Begin(), "warm"...))
		s.Reset()
	}
	if n := testing.AllocsPerRun(100, func() {
		s.End(append(s.Begin(), "a text"...))
		s.End(append(s.Begin(), "another"...))
		s.Reset()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
