package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The proxy under test has a core of its own; load, backend and management
// share the other one.
const (
	proxyCore = 0
	loadCore  = 1
)

// priority is the nice value of what is started; below 0 only root may.
var priority int

// prioritise raises the session among others, where the kernel divides the cores
// among sessions first, and returns what undoes it.
func prioritise() (undo func(), err error) {
	const file = "/proc/self/autogroup"
	if priority == 0 {
		return func() {}, nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(priority)), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EIO) {
		return nil, fmt.Errorf("set priority %d: %w", priority, err)
	}
	return func() { _ = os.WriteFile(file, []byte("0"), 0o644) }, nil // the session ends with its priority
}

// onCore runs f, which starts a process, on one core: the process inherits it.
func onCore(core int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if priority != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), priority); err != nil {
			return fmt.Errorf("set priority %d: %w", priority, err)
		}
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0) }() // it could be lowered, so root can raise it
	}
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	one.Set(core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	err := f()
	return errors.Join(err, unix.SchedSetaffinity(0, &old))
}

// pin moves all threads of a running process to cores.
func pin(pid int, cores ...int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	for range 2 { // a thread that was made during the first pass inherits the old set
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin process %d: %w", pid, err)
			}
		}
	}
	return nil
}

// cpuTime is the processor time of a process with all its threads, those that
// ended included, with the scheduler's own precision (clock_getcpuclockid(3)).
func cpuTime(pid int) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// ticks of one core since the machine started.
type ticks struct{ busy, all int64 }

// coreTicks reads /proc/stat for the two cores.
func coreTicks() (proxy, load ticks, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return proxy, load, err
	}
	of := func(core int) (ticks, error) {
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 9 || f[0] != "cpu"+strconv.Itoa(core) {
				continue
			}
			var t ticks
			for i, s := range f[1:9] { // user nice system idle iowait irq softirq steal
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					return t, err
				}
				t.all += n
				if i != 3 && i != 4 {
					t.busy += n
				}
			}
			return t, nil
		}
		return ticks{}, fmt.Errorf("read /proc/stat: no core %d", core)
	}
	if proxy, err = of(proxyCore); err != nil {
		return proxy, load, err
	}
	load, err = of(loadCore)
	return proxy, load, err
}

// busy is the part of the time, 0 to 1, a core worked between two readings.
func busy(from, to ticks) float64 {
	if to.all <= from.all {
		return 0
	}
	return float64(to.busy-from.busy) / float64(to.all-from.all)
}

// resident is the memory of a process, in bytes.
func resident(pid int) (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, errors.New("read statm: unknown format")
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
