package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cardea-apim/cardea/internal/e2e"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Cleanup()
	os.Exit(code)
}

// TestScripts runs testdata/script/*.txtar over the real binary. Besides the
// commands of testscript there are
//
//	start [flag...]            a server with the home $WORK/home on free ports
//	stop                       SIGTERM, and the exit code must be 0
//	http STATUS METHOD URL [FILE|-d TEXT]   the answer's body goes to the file answer
//	save VAR PATH              a member of the JSON in answer, as a.b.0.c
//	header VAR NAME            a header of the last answer
//	eventually STATUS METHOD URL   http, repeated for a while
//	waitfor TEXT METHOD URL    http, repeated until the answer has the text
//	answered TEXT           the last answer has the text
//
// A request carries Authorization: $AUTH when that is set; * in STATUS admits
// any. Variables $PUB, $DEV, $ADM, $MGT and $GW hold URLs.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real binary")
	}
	bin, err := e2e.Binary()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			offset, err := e2e.FreeOffset()
			if err != nil {
				return err
			}
			host := func(scheme string, port int) string { return scheme + "://localhost:" + strconv.Itoa(port+offset) }
			mgt := host("https", 9443)
			for k, v := range map[string]string{
				"OFFSET": strconv.Itoa(offset), "MGT": mgt, "GW": host("http", 8280), "GWS": host("https", 8243), "PLAIN": host("http", 9763),
				"PUB": mgt + "/api/am/publisher/v4", "DEV": mgt + "/api/am/devportal/v3", "ADM": mgt + "/api/am/admin/v4",
				"CARDEA_SERVER": mgt, "CARDEA_HOME": filepath.Join(env.WorkDir, "home"), "HOME": env.WorkDir, "XDG_CONFIG_HOME": env.WorkDir,
			} {
				env.Setenv(k, v)
			}
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Values[sessionKey{}] = &session{}
			env.Defer(func() {
				if s := env.Values[sessionKey{}].(*session); s.node != nil {
					s.node.Kill()
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": startNode, "stop": stopNode, "http": httpCommand, "save": saveCommand, "header": headerCommand, "eventually": eventually,
			"waitfor": waitFor, "answered": answerContains,
		},
	})
}

type sessionKey struct{}

// session is the server of one script and the last answer.
type session struct {
	node   *e2e.Process
	header http.Header
}

func sessionOf(ts *testscript.TestScript) *session { return ts.Value(sessionKey{}).(*session) }

func startNode(ts *testscript.TestScript, neg bool, args []string) {
	offset, err := strconv.Atoi(ts.Getenv("OFFSET"))
	ts.Check(err)
	p, err := e2e.Start(context.Background(), e2e.Node{Home: ts.Getenv("CARDEA_HOME"), Offset: offset, Args: args})
	if neg {
		if err == nil {
			p.Kill()
			ts.Fatalf("it started")
		}
		return
	}
	ts.Check(err)
	sessionOf(ts).node = p
}

func stopNode(ts *testscript.TestScript, _ bool, _ []string) {
	s := sessionOf(ts)
	if s.node == nil {
		ts.Fatalf("nothing runs")
	}
	started := time.Now()
	ts.Check(s.node.Stop())
	if took := time.Since(started); took > 10*time.Second {
		ts.Fatalf("stopping took %s", took)
	}
	s.node = nil
}

var httpClient = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// call makes the request of an http command.
func call(ts *testscript.TestScript, args []string) (status int, body []byte) {
	if len(args) < 2 {
		ts.Fatalf("usage: http STATUS METHOD URL [FILE|-d TEXT]")
	}
	var data []byte
	kind := "application/json"
	if len(args) == 4 && args[2] == "-d" {
		data, kind = []byte(args[3]), "application/x-www-form-urlencoded"
		if strings.HasPrefix(args[3], "{") || strings.HasPrefix(args[3], "[") {
			kind = "application/json"
		}
	} else if len(args) == 3 {
		// Variables in a body file are replaced, so that it can name ids.
		data = []byte(os.Expand(ts.ReadFile(args[2]), ts.Getenv))
		if strings.HasSuffix(args[2], ".form") {
			kind = "multipart/form-data; boundary=part"
			data = bytes.ReplaceAll(data, []byte("\n--part"), []byte("\r\n--part"))
			data = bytes.ReplaceAll(data, []byte("\"\n\n"), []byte("\"\r\n\r\n"))
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), args[0], args[1], bytes.NewReader(data))
	ts.Check(err)
	if data != nil {
		req.Header.Set("Content-Type", kind)
	}
	if auth := ts.Getenv("AUTH"); auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := httpClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	ts.Check(err)
	sessionOf(ts).header = res.Header
	ts.Check(os.WriteFile(ts.MkAbs("answer"), body, 0o600))
	return res.StatusCode, body
}

func httpCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: http STATUS METHOD URL [FILE|-d TEXT]")
	}
	status, body := call(ts, args[1:])
	if want := args[0]; want != "*" && strconv.Itoa(status) != want {
		ts.Fatalf("%s %s: status %d, want %s: %.800s", args[1], args[2], status, want, body)
	}
}

func eventually(ts *testscript.TestScript, _ bool, args []string) {
	var status int
	var body []byte
	for range 100 {
		if status, body = call(ts, args[1:]); strconv.Itoa(status) == args[0] {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s %s: still status %d, want %s: %.800s", args[1], args[2], status, args[0], body)
}

// waitFor repeats a request until the answer contains a text.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	var body []byte
	for range 100 {
		if _, body = call(ts, args[1:]); bytes.Contains(body, []byte(args[0])) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s %s: the answer never had %s: %.800s", args[1], args[2], args[0], body)
}

func answerContains(ts *testscript.TestScript, neg bool, args []string) {
	if has := strings.Contains(ts.ReadFile("answer"), args[0]); has == neg {
		ts.Fatalf("the answer is %.800s", ts.ReadFile("answer"))
	}
}

func saveCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: save VAR PATH")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("answer")), &v))
	for seg := range strings.SplitSeq(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[seg]
		case []any:
			i, err := strconv.Atoi(seg)
			if err != nil || i >= len(at) {
				ts.Fatalf("no element %s of %s", seg, args[1])
			}
			v = at[i]
		default:
			v = nil
		}
	}
	if v == nil {
		ts.Fatalf("the answer has no %s: %.300s", args[1], ts.ReadFile("answer"))
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

func headerCommand(ts *testscript.TestScript, neg bool, args []string) {
	v := sessionOf(ts).header.Get(args[1])
	if (v == "") != neg {
		ts.Fatalf("header %s is %q", args[1], v)
	}
	if !regexp.MustCompile(`^[A-Z_]+$`).MatchString(args[0]) {
		ts.Fatalf("%q is not a variable name", args[0])
	}
	ts.Setenv(args[0], v)
}
