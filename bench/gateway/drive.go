package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is one measurement of one proxy.
type sample struct {
	rate      float64       // requests per second that were answered
	cpu       time.Duration // of the proxy, per request
	p50, p99  time.Duration
	proxyBusy float64 // of its core, 0 to 1
	loadBusy  float64
	extra     time.Duration // processor time of the load process
	strange   float64       // part of the cores that other processes took
}

// counts says whether the throughput is the proxy's: its core was full and the
// other one was not.
func (s sample) counts() bool { return s.proxyBusy >= 0.95 && s.loadBusy < 0.90 }

// meter reads the clocks around a measurement.
type meter struct {
	pid         int
	cpu         time.Duration
	proxy, load ticks
}

func startMeter(pid int) (m meter, err error) {
	m.pid = pid
	if m.proxy, m.load, err = coreTicks(); err != nil {
		return m, err
	}
	if pid != 0 {
		m.cpu, err = cpuTime(pid)
	}
	return m, err
}

// stop adds to s what the clocks say for n requests.
func (m meter) stop(s *sample, n float64) error {
	if n <= 0 {
		return errors.New("no request was answered")
	}
	if m.pid != 0 {
		t, err := cpuTime(m.pid)
		if err != nil {
			return err
		}
		s.cpu = time.Duration(float64(t-m.cpu) / n)
	}
	p, l, err := coreTicks()
	if err != nil {
		return err
	}
	s.proxyBusy, s.loadBusy = busy(m.proxy, p), busy(m.load, l)
	return nil
}

// command is a program on the load core that ends with ctx or with this process.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// ended is the processor time of a command that ended.
func ended(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// ownLoad runs the load process.
func ownLoad(ctx context.Context, pid int, args ...string) (s sample, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := command(ctx, self, append([]string{"load"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return s, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err := onCore(loadCore, cmd.Start); err != nil {
		return s, err
	}
	defer func() {
		_ = in.Close() // ends it
		_, _ = io.Copy(io.Discard, out)
		if e := cmd.Wait(); e != nil && err == nil {
			err = fmt.Errorf("load: %w: %s", e, &errs)
		}
		s.extra = ended(cmd)
	}()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		_ = in.Close()
		_ = cmd.Wait() // its own message says more
		return s, fmt.Errorf("load: %w: %s", errors.Join(err, errors.New("not ready")), &errs)
	}
	m, err := startMeter(pid)
	if err != nil {
		return s, err
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		return s, err
	}
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return s, fmt.Errorf("load: %w: %s", err, &errs)
	}
	var r loadResult
	if err := json.Unmarshal(line, &r); err != nil {
		return s, err
	}
	if err := m.stop(&s, float64(r.Sent)); err != nil {
		return s, err
	}
	if r.Bad > 0 || r.Error != "" {
		return s, fmt.Errorf("load: %d of %d answers are bad: %s %s", r.Bad, r.Sent, r.Error, &errs)
	}
	s.rate, s.p50, s.p99 = float64(r.Sent)/r.Elapsed.Seconds(), r.P50, r.P99
	return s, nil
}

var (
	wrkRate   = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkErrors = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses: .*|Socket errors: .*)$`)
	wrkTimes  = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([0-9.]+)(us|ms|s)\s*$`)
)

// wrk sends as much as the proxy takes. The clocks are read in the middle of its
// time, and its rate is taken for that part.
func wrk(ctx context.Context, pid, conns int, d time.Duration, target string, args ...string) (s sample, err error) {
	all := append([]string{"-t1", "-c" + strconv.Itoa(conns), fmt.Sprintf("-d%ds", int(max(d, 2*time.Second).Seconds())), "--latency", "--timeout", "10s"}, args...)
	cmd := command(ctx, "wrk", append(all, target)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := onCore(loadCore, cmd.Start); err != nil {
		return s, err
	}
	pause(ctx, d/4)
	m, err := startMeter(pid)
	if err == nil {
		pause(ctx, d/2)
		err = m.stop(&s, 1)
	}
	if e := cmd.Wait(); e != nil || err != nil {
		return s, fmt.Errorf("wrk: %w: %s", errors.Join(e, err), &out)
	}
	s.extra = ended(cmd)
	if bad := wrkErrors.FindString(out.String()); bad != "" {
		return s, fmt.Errorf("wrk: %s", strings.TrimSpace(bad))
	}
	f := wrkRate.FindStringSubmatch(out.String())
	if f == nil {
		return s, fmt.Errorf("wrk says no rate: %s", &out)
	}
	if s.rate, err = strconv.ParseFloat(f[1], 64); err != nil {
		return s, err
	}
	s.cpu = time.Duration(float64(s.cpu) / (s.rate * (d / 2).Seconds()))
	for _, t := range wrkTimes.FindAllStringSubmatch(out.String(), -1) {
		d, err := time.ParseDuration(t[2] + t[3])
		if err != nil {
			return s, err
		}
		if t[1] == "50" {
			s.p50 = d
		} else {
			s.p99 = d
		}
	}
	return s, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

var h2Result = regexp.MustCompile(`requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed`)

// h2load sends over HTTP/2 on 8 connections with up to 8 streams each; rate 0 is
// as much as the proxy takes. It reports each request, from its start.
func h2load(ctx context.Context, tmp string, pid int, rate float64, d time.Duration, target string, args ...string) (s sample, err error) {
	const conns, streams = 8, 8
	log := filepath.Join(tmp, "h2load.log")
	defer os.Remove(log)
	all := append([]string{"-t1", "-c" + strconv.Itoa(conns), "-m" + strconv.Itoa(streams), "--log-file", log}, args...)
	if rate > 0 {
		perConn := max(1, int(rate/conns+0.5))
		all = append(all, "--rps", strconv.Itoa(perConn), "-n", strconv.Itoa(int(float64(perConn*conns)*d.Seconds())))
	} else {
		all = append(all, "-D", strconv.Itoa(int(max(d, 2*time.Second).Seconds())))
	}
	cmd := command(ctx, "h2load", append(all, target)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	m, err := startMeter(pid)
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := onCore(loadCore, cmd.Start); err != nil {
		return s, err
	}
	if err := cmd.Wait(); err != nil {
		return s, fmt.Errorf("h2load: %w: %s", err, &out)
	}
	took := time.Since(began)
	s.extra = ended(cmd)
	f := h2Result.FindStringSubmatch(out.String())
	if f == nil {
		return s, fmt.Errorf("h2load says no result: %s", &out)
	}
	times, bad, err := h2Times(log)
	if err != nil {
		return s, err
	}
	if f[5] != "0" || bad > 0 || len(times) == 0 {
		return s, fmt.Errorf("h2load: %s, %d answers are bad", f[0], bad)
	}
	if err := m.stop(&s, float64(len(times))); err != nil {
		return s, err
	}
	s.rate = float64(len(times)) / took.Seconds()
	s.p50, s.p99 = times[len(times)/2], times[len(times)*99/100]
	return s, nil
}

// h2Times reads start, status and duration (µs) of each request, in columns.
func h2Times(file string) (times []time.Duration, bad int, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, err
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 3 {
			continue
		}
		us, err := strconv.ParseInt(string(f[2]), 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("read the log of h2load: %w", err)
		}
		if string(f[1]) != "200" {
			bad++
		}
		times = append(times, time.Duration(us)*time.Microsecond)
	}
	slices.Sort(times)
	return times, bad, nil
}
