package foreign

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestNode has Node.js on both sides: each kind of client, each kind of server.
func TestNode(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	program := needed(t, "node")
	var said safeBuffer
	cmd := exec.Command(program, filepath.Join("testdata", "server.mjs"), w.cert.file, w.cert.key)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in := must[io.WriteCloser](t)(cmd.StdinPipe())
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	ok(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // ends it
		if err := cmd.Wait(); err != nil || said.String() != "" {
			t.Errorf("the server ended with %v: %s", err, said.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	ok(t, err)
	var ports [3]int
	ok(t, json.Unmarshal([]byte(line), &ports))

	type pair struct {
		name, out, said string
		err             error
	}
	var pairs []*pair
	var group sync.WaitGroup // they wait more than they work
	for i, backend := range []struct{ name, base string }{
		{"Http", "http://127.0.0.1"}, {"Https", "https://127.0.0.1"}, {"Http2", "https://127.0.0.1"},
	} {
		_, path := w.publish(t, "Node"+backend.name, anything, fmt.Sprintf("%s:%d", backend.base, ports[i]))
		for _, protocol := range []string{"http", "https", "h2c", "h2s"} {
			args := must[[]byte](t)(json.Marshal(map[string]string{
				"plain": w.Gateway(), "secure": w.GatewayTLS(), "path": path, "token": w.token, "protocol": protocol,
			}))
			p := &pair{name: protocol + " to " + backend.name}
			pairs = append(pairs, p)
			group.Go(func() {
				p.out, p.said, p.err = run(t, 180*time.Second, program, filepath.Join("testdata", "client.mjs"), string(args))
			})
		}
	}
	group.Wait()
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			if p.err != nil || strings.Count(p.out, "ok ") < 14 {
				t.Errorf("%v\n%s%s", p.err, p.out, p.said)
			}
		})
	}
}
