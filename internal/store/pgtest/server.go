package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// newestBin is the directory of the newest server installed, or empty.
func newestBin() string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return ""
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1])
}

func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}

// start makes a cluster in a temporary directory and serves it. A guardian
// shell holds the read end of a pipe of ours: when this process ends, however
// it ends, the guardian stops the server and removes the directory.
func start(bin string) (admin string, err error) {
	dir, err := os.MkdirTemp("", "cardea-pg-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	cred, err := unprivileged(dir)
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	out, err := command(cred, dir, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	for range 5 { // another process may take the port between our look and the start
		port, err := freePort()
		if err != nil {
			return "", err
		}
		if err = serve(bin, dir, data, port, cred); err == nil {
			return adminURL(port), nil
		}
		if !errors.Is(err, errEnded) {
			return "", err
		}
	}
	return "", errors.New("no free port")
}

var errEnded = errors.New("the server ended")

const guardian = `"$@" & pid=$!
trap '' INT TERM HUP
(cat <&3 >/dev/null; kill -INT $pid 2>/dev/null) &
wait $pid; code=$?
[ -e "$DIR/up" ] && rm -rf "$DIR"
exit $code`

func serve(bin, dir, data string, port int, cred *syscall.Credential) error {
	r, w, err := os.Pipe() // w stays open until this process ends
	if err != nil {
		return err
	}
	cmd := command(cred, dir, "/bin/sh", "-c", guardian, "guardian", filepath.Join(bin, "postgres"), "-D", data,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", strconv.Itoa(port),
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on",
		"-c", "max_connections=300", "-c", "shared_buffers=64MB", "-c", "log_min_messages=fatal", "-c", "autovacuum_naptime=10s")
	cmd.ExtraFiles = []*os.File{r}
	cmd.Env = append(os.Environ(), "DIR="+dir)
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		return err
	}
	r.Close()
	logFile.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, adminURL(port))
		if err == nil {
			conn.Close(ctx)
			keep = append(keep, w)
			return os.WriteFile(filepath.Join(dir, "up"), nil, 0o600)
		}
		select {
		case <-ended:
			w.Close()
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("%w: %s", errEnded, text)
		case <-ctx.Done():
			w.Close()
			return fmt.Errorf("no answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keep holds the pipes that tell guardians we are alive.
var keep []*os.File

func command(cred *syscall.Credential, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	// A session of its own: an interrupt meant for the test leaves the server to its guardian.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: cred}
	return cmd
}

// unprivileged is the user to serve as when we are root, which PostgreSQL
// refuses; the directory becomes theirs.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("as root, the server needs a user: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
