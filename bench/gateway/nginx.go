package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process of the benchmark that is not the product.
type child struct {
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
}

// startChild runs a program on a core and waits until it listens on addr.
func startChild(ctx context.Context, core int, addr string, env []string, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), log: &bytes.Buffer{}, done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := onCore(core, c.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = c.cmd.Wait() // it is ended by a signal
		close(c.done)
	}()
	for range 500 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return c, conn.Close()
		}
		select {
		case <-c.done:
			return nil, fmt.Errorf("%s ended: %s", name, c.log)
		case <-ctx.Done():
			c.stop()
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	c.stop()
	return nil, fmt.Errorf("%s does not listen on %s: %s", name, addr, c.log)
}

func (c *child) stop() {
	if c == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-c.done:
	case <-time.After(3 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// freeAddr is an address of the loopback interface nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

const nginxHead = `daemon off;
%s
worker_processes 1;
pid %[2]s/nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  default_type text/plain;
  server_tokens off;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  tcp_nodelay on;
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
`

// startNginx runs nginx with one worker and a configuration of its own.
func startNginx(ctx context.Context, dir string, core int, addr, servers string) (*nginx, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the configuration is in a directory of ours alone
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf(nginxHead, user, dir)+servers+"}\n"), 0o600); err != nil {
		return nil, err
	}
	bin, err := exec.LookPath("nginx")
	if err != nil {
		bin = "/usr/sbin/nginx" // not in the path of everybody
	}
	c, err := startChild(ctx, core, addr, nil, bin, "-c", conf, "-p", dir, "-e", "stderr")
	if err != nil {
		return nil, err
	}
	n := &nginx{child: c}
	if n.worker, err = onlyChild(c.cmd.Process.Pid); err != nil {
		c.stop()
		return nil, err
	}
	return n, nil
}

// nginx is a master process with its worker.
type nginx struct {
	*child
	worker int
}

func onlyChild(pid int) (int, error) {
	for range 100 {
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			return 0, err
		}
		for _, s := range stats {
			b, err := os.ReadFile(s)
			if err != nil {
				continue // it ended
			}
			_, rest, _ := strings.Cut(string(b), ") ")
			if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
				return strconv.Atoi(filepath.Base(filepath.Dir(s)))
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, errors.New("nginx has no worker")
}

// backendConfig answers with a body of 1 KB.
func backendConfig(addr string) string {
	return fmt.Sprintf("server { listen %s backlog=4096; location / { return 200 %q; } }\n", addr, strings.Repeat("x", smallBody))
}

// proxyAddrs are the listeners of nginx as a proxy.
type proxyAddrs struct{ plain, secure, h2, large string }

func proxyConfig(a proxyAddrs, backend, largeBackend, cert, key string) string {
	var b strings.Builder
	pass := func(upstream string) string {
		return "location / { proxy_pass http://" + upstream + "; proxy_http_version 1.1; proxy_set_header Connection \"\"; }"
	}
	tls := fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;", cert, key)
	for name, addr := range map[string]string{"small": backend, "large": largeBackend} {
		fmt.Fprintf(&b, "upstream %s { server %s; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }\n", name, addr)
	}
	fmt.Fprintf(&b, "server { listen %s backlog=4096; %s }\n", a.plain, pass("small"))
	fmt.Fprintf(&b, "server { listen %s ssl backlog=4096; %s %s }\n", a.secure, tls, pass("small"))
	fmt.Fprintf(&b, "server { listen %s ssl http2 backlog=4096; %s %s }\n", a.h2, tls, pass("small"))
	// Room for whole bodies in memory: nothing goes through files.
	fmt.Fprintf(&b, "server { listen %s backlog=4096; client_max_body_size 1m; client_body_buffer_size 256k; proxy_buffers 16 16k; proxy_buffer_size 16k; proxy_busy_buffers_size 32k; proxy_max_temp_file_size 0; %s }\n", a.large, pass("large"))
	return b.String()
}
