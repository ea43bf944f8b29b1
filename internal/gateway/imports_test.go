package gateway

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The way of a call knows no net/http: it is for HTTP/2 on both sides and for
// documents. And nothing here knows the management side.
func TestOnlyTheAdapterKnowsNetHTTP(t *testing.T) {
	const module = "github.com/cardea-apim/cardea/internal/"
	knowing := []string{"httpadapter.go", "http2body.go", "http2upstream.go", "fetch.go"}
	allowed := []string{"fault", "snapshot", "throttle", "token", "http1", "bus", "usage", "seal", "gateway"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
	imports:
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if strings.HasPrefix(name, "net/http") && !slices.Contains(knowing, path) {
				t.Errorf("%s imports %s", path, name)
			}
			ours, ok := strings.CutPrefix(name, module)
			if !ok {
				continue
			}
			for _, a := range allowed {
				if ours == a || strings.HasPrefix(ours, a+"/") {
					continue imports
				}
			}
			t.Errorf("%s imports %s", path, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
