package section

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	for _, x := range []struct{ name, old, text, want string }{
		{"a new file", "", "# A\n\na\n", "# A\n\na\n"},
		{"the first of two", "# A\n\nold\n\n# B\n\nb\n", "# A\n\nnew\n", "# A\n\nnew\n\n# B\n\nb\n"},
		{"the last of two", "# A\n\na\n\n# B\n\nold\n## C\n", "# B\n\nnew\n\n", "# A\n\na\n\n# B\n\nnew\n"},
		{"another one", "# A\n\na\n", "# B\nb\n", "# A\n\na\n\n# B\nb\n"},
		{"a heading that begins alike", "# A b\n\na\n", "# A\nb\n", "# A b\n\na\n\n# A\nb\n"},
		{"twice in the file", "# A\n1\n# A\n2\n", "# A\n3\n", "# A\n3\n"},
		{"text before the first heading", "x\n# A\n1\n", "# A\n2\n", "x\n\n# A\n2\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "r.md")
			if x.old != "" {
				if err := os.WriteFile(path, []byte(x.old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second time changes nothing
				if err := Replace(path, x.text); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != x.want {
					t.Fatalf("the file is %q, want %q", got, x.want)
				}
			}
		})
	}
	if err := Replace(filepath.Join(t.TempDir(), "r.md"), "no heading\n"); err == nil {
		t.Error("a text without a heading was taken")
	}
}
