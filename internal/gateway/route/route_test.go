package route

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPathsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		path string
		err  error
	}{
		{"", ErrAbsolute},
		{"a", ErrAbsolute},
		{"*", ErrAbsolute},
		{"/a/./b", ErrDots},
		{"/a/../b", ErrDots},
		{"/..", ErrDots},
		{"/a/..", ErrDots},
		{"/.", ErrDots},
		{"/a/%2e/b", ErrDots},
		{"/a/%2E%2e/b", ErrDots},
		{"/a/.%2e", ErrDots},
		{"/a/%252e%252e/b", ErrDots},
		{"/a/%25252e./b", ErrDots},
		{"/a/..;x=1/b", ErrDots},
		{"/a/..%3bx/b", ErrDots},
		{"/a/.;/b", ErrDots},
		{"/a/..%2fb", ErrDots},
		{"/a/x%2F..%2Fb", ErrDots},
		{`/a/..\b`, ErrDots},
		{"/a/..%5Cb", ErrDots},
		{"/a/%252e%252e%255cb", ErrDots},
		{"/a/%zz", ErrEscape},
		{"/a/%", ErrEscape},
		{"/a/%2", ErrEscape},
		{"/a/%-1", ErrEscape},
		{"/a/%00", ErrControl},
		{"/a/%0a", ErrControl},
		{"/a/\x01", ErrControl},
		{"/a/%7F", ErrControl},
		{"/a#b", ErrControl},
		{"/a/...", nil},
		{"/a/.hidden", nil},
		{"/a/..x", nil},
		{"/a/x..", nil},
		{"/a//b", nil},
		{"/a/%2F/b", nil},
		{"/a/é%C3%A9", nil},
		{"/a;x=1/b", nil},
		{"/a/%25", nil},
		{"/a/%2541", nil},
	} {
		if _, err := Parse(c.path); !errors.Is(err, c.err) {
			t.Errorf("Parse(%q) = %v, want %v", c.path, err, c.err)
		}
	}
}

func TestRestIsTheOriginalBytesBelowTheContext(t *testing.T) {
	for _, c := range []struct{ raw, context, rest string }{
		{"/pizza/1.0/menu", "/pizza/1.0", "/menu"},
		{"/pizz%61/1.0/m%65nu", "/pizza/1.0", "/m%65nu"},
		{"/pizza/1%2e0/a%2Fb", "/pizza/1.0", "/a%2Fb"},
		{"/pizza/1.0", "/pizza/1.0", ""},
		{"/p%C3%A9/x%2f", "/pé", "/x%2f"},
	} {
		p, err := Parse(c.raw)
		if err != nil || !strings.HasPrefix(p.Decoded, c.context) {
			t.Fatalf("Parse(%q) = %+v, %v", c.raw, p, err)
		}
		if got := p.Rest(len(c.context)); got != c.rest {
			t.Errorf("rest of %q below %q is %q, want %q", c.raw, c.context, got, c.rest)
		}
	}
}

func TestContexts(t *testing.T) {
	var tree Tree[string]
	for _, c := range []string{"/pizza", "/pizza/1.0", "/pizza/1.0.0", "/pizz", "/t/shop.com/pizza/1.0", "/1.0", "/1.0/1.0"} {
		tree = tree.With(c, &c)
	}
	for _, c := range []struct{ path, want string }{
		{"/pizza", "/pizza"},
		{"/pizza/", "/pizza"},
		{"/pizza/menu", "/pizza"},
		{"/pizza/1.0/menu", "/pizza/1.0"},
		{"/pizza/1.0", "/pizza/1.0"},
		{"/pizza/1.0.0/x", "/pizza/1.0.0"},
		{"/pizza/1.00", "/pizza"},
		{"/pizzas", ""},
		{"/pizz/a", "/pizz"},
		{"/", ""},
		{"/t/shop.com/pizza", ""},
		{"/t/shop.com/pizza/1.0/x", "/t/shop.com/pizza/1.0"},
		{"/1.0/x", "/1.0"},
		{"/1.0/1.0/x", "/1.0/1.0"},
	} {
		v, n := tree.Longest(c.path)
		got := ""
		if v != nil {
			got = *v
		}
		if got != c.want || n != len(c.want) {
			t.Errorf("%s: found %q (%d), want %q", c.path, got, n, c.want)
		}
	}
}

// The tree must agree with a plain map after any sequence of changes, and a
// tree that was taken before a change must not see it.
func TestTreeAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.SampledFrom([]string{"a", "b", "ab", "abc", "1.0", "1.0.0"})
		context := rapid.Custom(func(t *rapid.T) string { return "/" + strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "s"), "/") })
		var tree Tree[int]
		model := map[string]int{}
		check := func(tree Tree[int], model map[string]int) {
			if tree.Len() != len(model) {
				t.Fatalf("%d contexts, want %d", tree.Len(), len(model))
			}
			path := context.Draw(t, "path") + rapid.SampledFrom([]string{"", "/", "/x", "x"}).Draw(t, "tail")
			best := ""
			for c := range model {
				if (path == c || strings.HasPrefix(path, c+"/")) && len(c) > len(best) {
					best = c
				}
			}
			v, n := tree.Longest(path)
			if (v == nil) != (best == "") || v != nil && (*v != model[best] || n != len(best)) {
				t.Fatalf("%s: found %v (%d), want %q", path, v, n, best)
			}
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := context.Draw(t, "context")
			before, was := tree, map[string]int{}
			for k, v := range model {
				was[k] = v
			}
			if rapid.Bool().Draw(t, "remove") {
				tree = tree.Without(c)
				delete(model, c)
			} else {
				tree = tree.With(c, &i)
				model[c] = i
			}
			check(tree, model)
			check(before, was)
		}
	})
}

func TestResourcePrecedence(t *testing.T) {
	all := []Resource{
		{"/*", "GET"},
		{"/a/*", "GET"},
		{"/a/b/*", "GET"},
		{"/a/{x}", "GET"},
		{"/a/b", "GET"},
		{"/{y}/b", "GET"},
		{"/a/{x}/c", "GET"},
		{"/a/b", "POST"},
		{"/a/{x}", "DELETE"},
		{"/f/{name}.json", "GET"},
		{"/f/{name}", "GET"},
		{"/f/{a}-{b}.json", "GET"},
		{"/m/*/end", "GET"},
		{"/m/x/{p}", "GET"},
		{"/r/{+rest}", "GET"},
		{"/q?x={+v}", "GET"},
		{"/q", "GET"},
		{"/only", "PUT"},
		{"/", "PATCH"},
		{"/enc/a%2Fb", "GET"},
		{"/enc/{v}", "GET"},
		{"/a,b;c=d/x", "GET"},
		{"/~user/-._", "GET"},
	}
	for _, c := range []struct{ verb, path, query, want string }{
		{"GET", "/a/b", "", "/a/b"},
		{"GET", "/a/b/", "", "/a/b"},
		{"GET", "/a/z", "", "/a/{x}"},
		{"GET", "/z/b", "", "/{y}/b"},
		{"GET", "/a/b/c", "", "/a/{x}/c"},
		{"GET", "/a/b/d", "", "/a/b/*"},
		{"GET", "/a/z/d", "", "/a/*"},
		{"GET", "/a", "", "/a/*"},
		{"GET", "/", "", "/*"},
		{"GET", "", "", "/*"},
		{"GET", "/z/z/z", "", "/*"},
		{"DELETE", "/a/b", "", "/a/{x}"},
		{"POST", "/a/b", "", "/a/b"},
		{"POST", "/a/z", "", "405"},
		{"GET", "/f/x.json", "", "/f/{name}.json"},
		{"GET", "/f/x-y.json", "", "/f/{a}-{b}.json"},
		{"GET", "/f/.json", "", "/f/{name}"},
		{"GET", "/f/x.xml", "", "/f/{name}"},
		{"GET", "/m/x/end", "", "/m/x/{p}"},
		{"GET", "/m/y/end", "", "/m/*/end"},
		{"GET", "/m/y/z/end", "", "/*"},
		{"GET", "/r/a/b/c", "", "/r/{+rest}"},
		{"GET", "/r", "", "/*"},
		{"GET", "/q", "x=1", "/q?x={+v}"},
		{"GET", "/q", "y=1&x", "/q?x={+v}"},
		{"GET", "/q", "y=1", "/q"},
		{"GET", "/only", "", "/*"},
		{"PUT", "/only", "", "/only"},
		{"HEAD", "/only", "", "405"},
		{"PATCH", "/", "", "/"},
		{"PATCH", "/x/y", "", "405"},
		{"GET", "/enc/a%2Fb", "", "/enc/a%2Fb"},
		{"GET", "/enc/a%2fb", "", "/enc/a%2Fb"},
		{"GET", "/enc/%61%2Fb", "", "/enc/a%2Fb"},
		{"GET", "/enc/a%2Fc", "", "/enc/{v}"},
		{"GET", "/%61/%62", "", "/a/b"},
		{"GET", "/a/%2562", "", "/a/{x}"},
		{"GET", "//", "", "/*"},
		{"GET", "/a//", "", "/a/*"},
		{"GET", "/~user/-._", "", "/~user/-._"},
	} {
		m, err := NewMatcher(all)
		if err != nil {
			t.Fatal(err)
		}
		got := find(t, m, all, c.verb, c.path, c.query)
		if got != c.want {
			t.Errorf("%s %s?%s: %s, want %s", c.verb, c.path, c.query, got, c.want)
		}
	}
}

func find(t interface{ Fatalf(string, ...any) }, m *Matcher, all []Resource, verb, path, query string) string {
	full := path
	if full == "" {
		full = "/"
	}
	p, err := Parse(full)
	if err != nil {
		t.Fatalf("parse %q: %v", path, err)
	}
	op, found, err := p.Resource(0, m, query, verb)
	switch {
	case err != nil:
		return err.Error()
	case found == Match:
		return all[op].Target
	case found == NoVerb:
		return "405"
	}
	return "404"
}

func TestPathParametersMustNotChangeTheResource(t *testing.T) {
	all := []Resource{{"/menu", "GET"}, {"/{id}", "GET"}, {"/plain/list", "GET"}, {"/files/{name}", "GET"}}
	m, err := NewMatcher(all)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{"/menu;x=1", ErrAmbiguous.Error()}, // /menu to one backend, /{id} to another
		{"/other;x=1", "/{id}"},
		{"/plain/list;v=2", "/plain/list"},
		{"/plain;a/list", "/plain/list"},
		{"/files/a;b", "/files/{name}"},
		{"/menu%3Bx", "/{id}"},
		{"/none/x;y", "404"},
	} {
		if got := find(t, m, all, "GET", c.path, ""); got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
}

func TestTemplatesThatDoNotCompile(t *testing.T) {
	for _, target := range []string{"/a/{b", "/a/b}", "/a/{}", "/a/{b{c}}", "/..", "/a/./b", "/" + strings.Repeat("a/", 200)} {
		if _, err := NewMatcher([]Resource{{target, "GET"}}); err == nil {
			t.Errorf("%q compiled", target)
		}
	}
}

// naive decides like the documentation reads: every template that matches the
// path, ordered by class and then from left to right; the first with the verb.
func naive(all []Resource, verb, path string) string {
	path = strings.TrimPrefix(path, "/")
	var segs []string
	if path != "" {
		segs = strings.Split(strings.TrimSuffix(path, "/"), "/")
	}
	type hit struct {
		key []int
		r   Resource
	}
	var hits []hit
	for at, r := range all {
		tpl := strings.Trim(r.Target, "/")
		var parts []string
		if tpl != "" {
			parts = strings.Split(tpl, "/")
		}
		key, ok, wild := []int{0}, true, false
		i := 0
	parts:
		for n, p := range parts {
			last := n == len(parts)-1
			switch {
			case p == "*" && last:
				key, wild, i = append(key, 5), true, len(segs)
				break parts
			case p == "{+r}" && last:
				if i >= len(segs) || len(segs)-i == 1 && segs[i] == "" {
					ok = false
				}
				key, wild, i = append(key, 4), true, len(segs)
				break parts
			case i >= len(segs):
				ok = false
				break parts
			case p == "*":
				ok = ok && segs[i] != ""
				key, wild = append(key, 3), true
			case p == "{x}", p == "{+r}":
				ok = ok && segs[i] != ""
				key = append(key, 2)
			case p == "{x}.j":
				ok = ok && len(segs[i]) > 2 && strings.HasSuffix(segs[i], ".j")
				key = append(key, 1)
			default:
				ok = ok && segs[i] == p
				key = append(key, 0)
			}
			i++
		}
		if !ok || i < len(segs) {
			continue
		}
		if wild {
			key[0] = 1
		}
		hits = append(hits, hit{append(key, -1, at), r})
	}
	slices.SortFunc(hits, func(a, b hit) int { return slices.Compare(a.key, b.key) })
	for _, h := range hits {
		if h.r.Verb == verb {
			return h.r.Target
		}
	}
	if len(hits) > 0 {
		return "405"
	}
	return "404"
}

func TestMatcherAgreesWithTheNaiveOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "{x}", "{x}", "{x}.j", "*", "{+r}"})
		resource := rapid.Custom(func(t *rapid.T) Resource {
			return Resource{
				"/" + strings.Join(rapid.SliceOfN(part, 0, 4).Draw(t, "parts"), "/"),
				rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "verb"),
			}
		})
		all := rapid.SliceOfN(resource, 1, 12).Draw(t, "resources")
		m, err := NewMatcher(all)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "c.j", ".j", ""}), 0, 5).Draw(t, "path"), "/")
			verb := rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "asked")
			if got, want := find(t, m, all, verb, path, ""), naive(all, verb, path); got != want {
				t.Fatalf("%s %s in %v: %s, want %s", verb, path, all, got, want)
			}
		}
	})
}

// FuzzRoute looks for paths that crash the router, or of which the part below
// the context is not what the backend would be sent.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"/a/b", "/a/%2e%2e/b", "/a;x/..;y", "/%252e", "//", "/a/b/%2F..", "/\\..", "/x.json/", "/é/%C3%A9"} {
		f.Add(s, "x=1", "/a/{x}")
	}
	f.Fuzz(func(t *testing.T, path, query, target string) {
		all := []Resource{{"/*", "GET"}, {"/a/{x}", "GET"}, {"/a/b", "POST"}, {"/f/{n}.json", "GET"}, {target, "GET"}}
		m, err := NewMatcher(all)
		if err != nil {
			if m, err = NewMatcher(all[:4]); err != nil {
				t.Fatal(err)
			}
		}
		p, err := Parse(path)
		if err != nil {
			return
		}
		if rest := p.Rest(0); rest != path {
			t.Fatalf("rest of %q is %q", path, rest)
		}
		for seg := range strings.SplitSeq(p.Decoded, "/") {
			if seg == "." || seg == ".." {
				t.Fatalf("%q has a dot segment after decoding: %q", path, p.Decoded)
			}
		}
		op, found, err := p.Resource(0, m, query, "GET")
		if err == nil && found != Match {
			t.Fatalf("%q matches nothing although there is /*: %v", path, found)
		}
		if err == nil && (op < 0 || op >= len(all) || all[op].Verb != "GET") {
			t.Fatalf("%q found resource %d", path, op)
		}
		var tree Tree[int]
		v := 1
		tree = tree.With("/a", &v).With("/a/b", &v)
		if _, n := tree.Longest(p.Decoded); n > len(p.Decoded) {
			t.Fatalf("context of %d bytes in %q", n, p.Decoded)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var all []Resource
	for _, noun := range []string{"users", "repos", "orgs", "gists", "teams"} {
		for _, tail := range []string{"", "/{id}", "/{id}/events", "/{id}/events/{event}", "/search"} {
			all = append(all, Resource{"/" + noun + tail, "GET"}, Resource{"/" + noun + tail, "POST"})
		}
	}
	m, err := NewMatcher(all)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, _ := Parse("/repos/1234/events/99")
		if _, found, _ := p.Resource(0, m, "", "POST"); found != Match {
			b.Fatal("not found")
		}
	}
}
