//go:build unix

package slotfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/throttle"
)

var noon = time.Date(2026, 11, 22, 12, 0, 10, 0, time.UTC)

const limit = 50

func perDay(name string) throttle.Check {
	return throttle.Check{
		Key: throttle.KeyOf(throttle.LevelApplication, name), Level: throttle.LevelApplication,
		Limit: limit, Window: 24 * time.Hour, Policy: "50PerDay",
	}
}

func open(t *testing.T, dir string, o Options) *File {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	f, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func admit(l *throttle.Limiter, now time.Time, calls int, cs ...throttle.Check) (n int) {
	for range calls {
		if l.Admit(now, cs).Allowed {
			n++
		}
	}
	return n
}

// The test binary itself, started again with these variables, is the process
// that dies: it admits a number of calls, prints each, and sends itself SIGKILL
// straight after the last, so nothing can be flushed or synced any more.
const (
	childDir   = "SLOTFILE_TEST_DIR"
	childCalls = "SLOTFILE_TEST_CALLS"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	calls, _ := strconv.Atoi(os.Getenv(childCalls))
	f, err := Open(dir, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l := throttle.New(throttle.Options{Backing: f})
	checks := []throttle.Check{perDay("a"), perDay("b")}
	for range calls {
		if l.Admit(noon, checks).Allowed {
			os.Stdout.WriteString("passed\n")
		}
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func TestKillRightAfterAnAdmissionLosesNoCountOfADay(t *testing.T) {
	t.Parallel()
	for range 8 {
		dir := t.TempDir()
		total := 0
		for _, k := range []int{1 + rand.IntN(10), 1 + rand.IntN(10), 1 + rand.IntN(10)} {
			total += killAfter(t, dir, k)
		}
		f := open(t, dir, Options{})
		if d := f.Damages(); len(d) != 0 {
			t.Fatalf("damaged by a kill: %v", d)
		}
		l := throttle.New(throttle.Options{Backing: f})
		if rest := admit(l, noon, 2*limit, perDay("a"), perDay("b")); total+rest != limit {
			t.Fatalf("%d passed before the kills and %d after, together %d, want exactly %d", total, rest, total+rest, limit)
		}
	}
}

// killAfter runs the child for k calls and returns how many it said had passed.
func killAfter(t *testing.T, dir string, k int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCalls+"="+strconv.Itoa(k))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("child ended with %v, want SIGKILL", err)
	}
	return strings.Count(string(out), "passed\n")
}

func TestDamagedSlotIsNamedAndPutAsideAndTheOthersSurvive(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		off  int
		bit  byte
	}{{"mark", 3, 1}, {"key", 10, 4}, {"window number", 33, 1}, {"count", 51, 1}, {"count checksum", 48, 2}, {"crc", 61, 8}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, dir, Options{})
			l := throttle.New(throttle.Options{Backing: f})
			admit(l, noon, 10, perDay("a"))
			admit(l, noon, 10, perDay("b"))
			f.Close()

			file := filepath.Join(dir, "counters-000.slots")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[slotSize+c.off] ^= c.bit // the first place holds "a"
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}

			f = open(t, dir, Options{})
			d := f.Damages()
			if len(d) != 1 || d[0].File != file || d[0].Offset != slotSize {
				t.Fatalf("damages %v, want one at %s:%d", d, file, slotSize)
			}
			l = throttle.New(throttle.Options{Backing: f})
			if n := admit(l, noon, 2*limit, perDay("b")); n != limit-10 {
				t.Errorf("%d of the sound counter passed, want %d", n, limit-10)
			}
			f.Close()
			if d := open(t, dir, Options{}).Damages(); len(d) != 0 {
				t.Errorf("still damaged after it was put aside: %v", d)
			}
		})
	}
}

func TestDamagedHeaderPutsTheFileAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	admit(throttle.New(throttle.Options{Backing: f}), noon, 1, perDay("a"))
	f.Close()
	file := filepath.Join(dir, "counters-000.slots")
	b, _ := os.ReadFile(file)
	b[9] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f = open(t, dir, Options{})
	if d := f.Damages(); len(d) != 1 || d[0].Offset != -1 {
		t.Errorf("damages %v", d)
	}
	if _, err := os.Stat(file + ".damaged"); err != nil {
		t.Error(err)
	}
}

func TestGrowsBySegmentsUpToItsBoundAndGoesOnInMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{SegmentSize: 8 * slotSize, MaxSegments: 3}) // 21 places
	l := throttle.New(throttle.Options{Backing: f})
	for i := range 30 {
		if n := admit(l, noon, 1, perDay(fmt.Sprint(i))); n != 1 {
			t.Fatalf("counter %d was refused", i)
		}
	}
	if l.Stats().Unbacked != 9 || f.Health() == nil {
		t.Errorf("unbacked %d, health %v; want 9 and a failure", l.Stats().Unbacked, f.Health())
	}
	f.Close()
	f = open(t, dir, Options{SegmentSize: 8 * slotSize, MaxSegments: 3})
	l = throttle.New(throttle.Options{Backing: f})
	if n := l.Stats().Counters; n != 21 {
		t.Fatalf("%d counters came back, want 21", n)
	}
	l.Sweep(noon.Add(48 * time.Hour)) // places of past windows are used again
	if n := admit(l, noon.Add(48*time.Hour), 2*limit, perDay("x")); n != limit || f.Health() != nil && l.Stats().Unbacked != 0 {
		t.Errorf("%d passed, %d unbacked", n, l.Stats().Unbacked)
	}
}

func TestWindowsAndResetsAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	l := throttle.New(throttle.Options{Backing: f})
	admit(l, noon, 60, perDay("a"))
	at := noon.Add(time.Minute)
	c := perDay("a")
	l.Reset(at, c.Key, at)
	admit(l, at, 7, c)
	minute := c
	minute.Window = time.Minute
	admit(l, at, 7, minute)
	f.Close()

	f = open(t, dir, Options{})
	l = throttle.New(throttle.Options{Backing: f})
	l.Reset(at, c.Key, at)
	if n := admit(l, at, 100, c); n != limit-7 {
		t.Errorf("%d passed, want %d: the reset is over and 7 are used", n, limit-7)
	}
	if n := admit(l, at, 100, minute); n != limit {
		t.Errorf("%d passed in the minute window, want %d: short windows are not kept", n, limit)
	}
	f.Close()
	l = throttle.New(throttle.Options{Backing: open(t, dir, Options{})})
	if n := admit(l, noon.Add(24*time.Hour), 100, c); n != limit {
		t.Errorf("%d passed the next day, want %d", n, limit)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	if _, err := Open(dir, Options{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("second open: %v", err)
	}
	f.Close()
	open(t, dir, Options{})
}

func BenchmarkAdmitInADayWindow(b *testing.B) {
	f, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	l := throttle.New(throttle.Options{Backing: f})
	c := perDay("a")
	c.Limit = 1 << 60
	cs := []throttle.Check{c}
	b.ReportAllocs()
	for b.Loop() {
		l.Admit(noon, cs)
	}
}
