package exchange

import (
	"slices"
	"testing"
)

func TestHeader(t *testing.T) {
	h := Header{{Name: "A", Value: "1"}, {Name: "b", Value: "2"}, {Name: "a", Value: "3"}, {Name: "C", Value: "4"}}
	if h.Get("B") != "2" || h.Get("a") != "1" || h.Get("x") != "" || !h.Has("c") || h.Has("x") {
		t.Errorf("look-ups in %v", h)
	}
	h.Set("a", "9")
	if want := (Header{{Name: "A", Value: "9"}, {Name: "b", Value: "2"}, {Name: "C", Value: "4"}}); !slices.Equal(h, want) {
		t.Errorf("after Set: %v, want %v", h, want)
	}
	h.Set("d", "5")
	h.Del("B")
	h.Add("C", "6")
	if want := (Header{{Name: "A", Value: "9"}, {Name: "C", Value: "4"}, {Name: "d", Value: "5"}, {Name: "C", Value: "6"}}); !slices.Equal(h, want) {
		t.Errorf("after Set, Del, Add: %v, want %v", h, want)
	}
}

func TestEachToken(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, ",": nil, "a": {"a"}, " a , b,,\tc ": {"a", "b", "c"}, "a b, c": {"a b", "c"},
	} {
		var got []string
		EachToken(in, func(s string) bool { got = append(got, s); return true })
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
