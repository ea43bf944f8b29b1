package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestUnknownPathsAnswerInJSONToWhomeverAsksForIt(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/cardea/v1/nodes", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "nodes") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "root") })
	h := unknownPaths(mux)
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for name, c := range map[string]struct {
		method, path, accept string
		status               int
		json                 bool
	}{
		"unknown version":             {"GET", "/api/am/publisher/v3/apis", "application/json", 404, true},
		"unknown path of ours":        {"GET", "/api/cardea/v1/nothing", "application/json, text/plain;q=0.5", 404, true},
		"a media type with +json":     {"GET", "/api/x", "Application/HAL+JSON; q=1", 404, true},
		"wrong method":                {"DELETE", "/api/cardea/v1/nodes", "application/json", 405, true},
		"unknown path, head":          {"HEAD", "/api/x", "application/json", 404, true},
		"browser":                     {"GET", "/api/am/publisher/v3/apis", browser, 404, false},
		"no accept":                   {"GET", "/api/am/publisher/v3/apis", "", 404, false},
		"wrong method, no accept":     {"DELETE", "/api/cardea/v1/nodes", "", 405, false},
		"outside the management APIs": {"GET", "/apis/x", "application/json", 404, false},
		"a path that is known":        {"GET", "/api/cardea/v1/nodes", "application/json", 200, false},
		"an unclean path":             {"GET", "/api//cardea/v1/nodes", "application/json", 307, false},
		"an unclean unknown path":     {"GET", "/api//x", "application/json", 307, false},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		h.ServeHTTP(w, r)
		isJSON := w.Header().Get("Content-Type") == "application/json"
		if w.Code != c.status || isJSON != c.json {
			t.Errorf("%s: %d %s %s, want %d, JSON %v", name, w.Code, w.Header().Get("Content-Type"), w.Body, c.status, c.json)
			continue
		}
		if c.status == 405 && !strings.Contains(w.Header().Get("Allow"), "GET") {
			t.Errorf("%s: Allow is %q", name, w.Header().Get("Allow"))
		}
		if !c.json {
			continue
		}
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body["code"] != float64(c.status) || body["message"] == "" || body["description"] == "" {
			t.Errorf("%s: %s, %v", name, w.Body, err)
		}
		var members []string
		for k := range body {
			members = append(members, k)
		}
		slices.Sort(members)
		if want := []string{"code", "description", "error", "message", "moreInfo"}; !slices.Equal(members, want) {
			t.Errorf("%s: members %v, want %v", name, members, want)
		}
	}
}
