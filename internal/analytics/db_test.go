package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/usage"
)

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 10, 0, time.UTC)
	quiet = slog.New(slog.DiscardHandler)
	key   = []byte("0123456789abcdef0123456789abcdef")
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time  { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) set(t time.Time) { c.mu.Lock(); defer c.mu.Unlock(); c.now = t }
func atNoon() *clock             { return &clock{now: noon} }
func within(d time.Duration) Query {
	return Query{Tenant: "t", From: noon.Add(-d), To: noon.Add(time.Minute)}
}
func minuteOf(t time.Time) int64 { return t.Unix() / 60 }
func latencies(us ...uint64) (h usage.Histogram) {
	for _, v := range us {
		h.Add(v)
	}
	return h
}

func open(t testing.TB, dir string, c *clock, change ...func(*Options)) *DB {
	t.Helper()
	o := Options{Log: quiet, Now: c.Now, DecisionKey: key}
	for _, fn := range change {
		fn(&o)
	}
	d, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func counter(at time.Time, api string, status int, n uint64) usage.Counter {
	return usage.Counter{
		CounterKey: usage.CounterKey{Minute: minuteOf(at), Tenant: "t", API: api, APIName: "Name" + api, APIVersion: "1.0", Application: "app", Operation: "/menu", Verb: "GET", Status: status},
		Count:      n, BytesIn: 10 * n, BytesOut: 100 * n, Gateway: latencies(100, 200), Backend: latencies(5000),
	}
}

func batch(seq uint64, cs ...usage.Counter) usage.Batch {
	return usage.Batch{Gateway: "g", Boot: "b", Seq: seq, Counters: cs}
}

func store(t testing.TB, d *DB, bs ...usage.Batch) {
	t.Helper()
	for _, b := range bs {
		if err := d.Store(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func requests(t testing.TB, d *DB, q Query) uint64 {
	t.Helper()
	got, err := d.Totals(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return got.Requests
}

func TestBatchesCountOnceInWhateverOrderTheyArrive(t *testing.T) {
	t.Parallel()
	const batches, copies = 60, 3
	d := open(t, t.TempDir(), atNoon())
	var seqs []uint64
	for range copies {
		for s := range uint64(batches) {
			seqs = append(seqs, s+1)
		}
	}
	rand.Shuffle(len(seqs), func(i, j int) { seqs[i], seqs[j] = seqs[j], seqs[i] })
	var wg sync.WaitGroup
	for _, gw := range []string{"g1", "g2"} {
		for part := range 4 { // concurrent senders of the same numbers
			wg.Go(func() {
				for i, s := range seqs {
					if i%4 == part {
						b := batch(s, counter(noon, "a", 200, s))
						b.Gateway = gw
						if err := d.Store(t.Context(), b); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	if got, want := requests(t, d, within(time.Hour)), uint64(2*batches*(batches+1)/2); got != want {
		t.Errorf("%d requests counted, want %d", got, want)
	}
	if st := d.Stats(); st.Batches != 2*batches || st.Repeated != 2*batches*(copies-1) {
		t.Errorf("%+v, want %d stored and %d repeated", st, 2*batches, 2*batches*(copies-1))
	}
	var ahead int
	if err := d.read.QueryRow(`SELECT count(*) FROM ahead`).Scan(&ahead); err != nil || ahead != 0 {
		t.Errorf("%d numbers still held beyond a gap, %v", ahead, err)
	}
	other := batch(1, counter(noon, "a", 200, 5))
	other.Gateway, other.Boot = "g1", "after a restart"
	store(t, d, other)
	if got, want := requests(t, d, within(time.Hour)), uint64(batches*(batches+1)+5); got != want {
		t.Errorf("%d requests after a restart of a gateway, want %d", got, want)
	}
}

func TestAFileThatWasLostTakesUpWithAGatewayFarAhead(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	far := uint64(5_000_000)
	store(t, d, batch(far, counter(noon, "a", 200, 1)), batch(far, counter(noon, "a", 200, 1)), batch(far-1, counter(noon, "a", 200, 1)), batch(far+1, counter(noon, "a", 200, 1)))
	if got := requests(t, d, within(time.Hour)); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
}

func TestMalformedBatchesAreRefusedAndHoldNobodyUp(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	for _, b := range []usage.Batch{{}, {Gateway: "g", Boot: "b"}, {Gateway: "g", Seq: 1}, {Boot: "b", Seq: 1}, {Gateway: strings.Repeat("g", 300), Boot: "b", Seq: 1}} {
		if err := d.Store(t.Context(), b); !errors.Is(err, ErrBatch) {
			t.Errorf("%+.60v: %v, want ErrBatch", b, err)
		}
	}
	store(t, d, batch(1, counter(noon, "a", 200, 1)))
}

func TestRollUpsAgreeWhateverTheRange(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon(), func(o *Options) { o.KeepMinutes = 400 * 24 * time.Hour; o.KeepHours = o.KeepMinutes })
	type at struct {
		t time.Time
		n uint64
	}
	var all []at
	var cs []usage.Counter
	for range 400 {
		x := at{noon.Add(-time.Duration(rand.IntN(10*24*60)) * time.Minute), uint64(1 + rand.IntN(9))}
		all = append(all, x)
		cs = append(cs, counter(x.t, "a", 200, x.n))
	}
	store(t, d, batch(1, cs[:200]...), batch(2, cs[200:]...))
	for range 200 {
		from := noon.Add(-time.Duration(rand.IntN(10*24*60*60)) * time.Second)
		to := from.Add(time.Duration(1+rand.IntN(5*24*60*60)) * time.Second)
		lo, hi := from.Truncate(time.Minute), to.Add(time.Minute-1).Truncate(time.Minute)
		var want uint64
		for _, x := range all {
			if m := x.t.Truncate(time.Minute); !m.Before(lo) && m.Before(hi) {
				want += x.n
			}
		}
		got, err := d.Totals(t.Context(), Query{Tenant: "t", From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		if got.Requests != want || !got.From.Equal(lo) || !got.To.Equal(hi) {
			t.Fatalf("%v to %v: %d requests over %v to %v, want %d over %v to %v", from, to, got.Requests, got.From, got.To, want, lo, hi)
		}
	}
	for _, step := range []string{"minute", "hour", "day"} {
		q := Query{Tenant: "t", From: noon.Add(-48 * time.Hour), To: noon}
		s, err := d.Series(t.Context(), q, step)
		if err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for _, p := range s.Points {
			sum += p.Requests
		}
		if want := requests(t, d, Query{Tenant: "t", From: s.From, To: s.To}); sum != want {
			t.Errorf("points by %s add up to %d, totals say %d", step, sum, want)
		}
	}
}

func TestSumsByDimension(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	limited := counter(noon, "a", 429, 3)
	limited.Code, limited.Application = 900803, "other"
	foreign := counter(noon, "a", 200, 1000)
	foreign.Tenant = "another"
	failed := counter(noon, "b", 500, 2)
	store(t, d, batch(1, counter(noon, "a", 200, 7), limited, failed, foreign))
	got, err := d.Totals(t.Context(), within(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got.Requests != 12 || got.Errors != 5 || got.Refused != 3 || got.BytesIn != 120 || got.BytesOut != 1200 {
		t.Errorf("totals %+v", got)
	}
	if g, b := got.Gateway, got.Backend; g.Mean != 150 || g.P50 < 100 || g.P50 > 125 || g.P99 < 200 || g.P99 > 250 || b.P95 < 5000 || b.P95 > 6250 {
		t.Errorf("gateway latency %+v, backend %+v", g, b)
	}
	for dim, want := range map[string]string{
		"api":         "a=10 b=2 ",
		"application": "app=9 other=3 ",
		"operation":   "GET /menu=10 GET /menu=2 ",
		"status":      "200=7 429=3 500=2 ",
		"code":        "900803=3 ",
	} {
		gs, err := d.By(t.Context(), within(time.Hour), dim, 10)
		if err != nil {
			t.Fatal(err)
		}
		var s string
		for _, g := range gs.Groups {
			s += fmt.Sprintf("%s=%d ", g.Key, g.Requests)
		}
		if s != want {
			t.Errorf("by %s: %q, want %q", dim, s, want)
		}
	}
	for name, c := range map[string]struct {
		change func(*Query)
		want   uint64
	}{
		"api":                 {func(q *Query) { q.API = "a" }, 10},
		"application":         {func(q *Query) { q.Application = "other" }, 3},
		"status":              {func(q *Query) { q.Status = 500 }, 2},
		"code":                {func(q *Query) { q.Code = 900803 }, 3},
		"verb":                {func(q *Query) { q.Verb = "POST" }, 0},
		"own applications":    {func(q *Query) { q.Applications = []string{"other", "x"} }, 3},
		"no own applications": {func(q *Query) { q.Applications = []string{} }, 0},
		"another tenant":      {func(q *Query) { q.Tenant = "another" }, 1000},
		"no tenant":           {func(q *Query) { q.Tenant = "" }, 0},
	} {
		q := within(time.Hour)
		c.change(&q)
		if got := requests(t, d, q); got != c.want {
			t.Errorf("%s: %d requests, want %d", name, got, c.want)
		}
	}
}

func TestRetentionKeepsRollUpsLongerThanWhatTheyAreMadeOf(t *testing.T) {
	t.Parallel()
	c := atNoon()
	d := open(t, t.TempDir(), c)
	b := batch(1, counter(noon, "a", 200, 4))
	b.Calls = []usage.Call{{Time: noon, ID: "x", Tenant: "t", API: "a", Status: 200}}
	b.Decisions = []usage.Decision{{ID: "y", Time: noon, Tenant: "t"}}
	store(t, d, b)
	const day = 24 * time.Hour
	for _, s := range []struct {
		age  time.Duration
		rows string
	}{
		{day, "minute=1 hour=1 day=1 trend=6 call=1 decision=1 dim=1"},
		{3 * day, "minute=0 hour=1 day=1 trend=4 call=1 decision=1 dim=1"},
		{8 * day, "minute=0 hour=1 day=1 trend=4 call=0 decision=1 dim=1"},
		{62 * day, "minute=0 hour=0 day=1 trend=2 call=0 decision=0 dim=1"},
		{735 * day, "minute=0 hour=0 day=0 trend=0 call=0 decision=0 dim=0"},
	} {
		c.set(noon.Add(s.age))
		if err := d.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, table := range []string{"minute", "hour", "day", "trend", "call", "decision", "dim"} {
			var n int
			if err := d.read.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s=%d", table, n))
		}
		if g := strings.Join(got, " "); g != s.rows {
			t.Errorf("after %v: %s, want %s", s.age, g, s.rows)
		}
		if s.age < 700*day {
			if n := requests(t, d, Query{Tenant: "t", From: noon.Add(-time.Minute), To: noon.Add(time.Minute)}); n != 4 {
				t.Errorf("after %v: %d requests are still known, want 4", s.age, n)
			}
		}
	}
	store(t, d, batch(2, counter(c.Now(), "a", 200, 1))) // its key was forgotten and comes back
	if n := requests(t, d, Query{Tenant: "t", From: c.Now().Add(-time.Hour), To: c.Now().Add(time.Minute)}); n != 1 {
		t.Errorf("%d requests after the prune, want 1", n)
	}
}

func TestFileStaysWithinItsSizeAndCountersStayExact(t *testing.T) {
	t.Parallel()
	const bound = 2 << 20
	d := open(t, t.TempDir(), atNoon(), func(o *Options) { o.MaxBytes = bound })
	for s := range uint64(30) {
		b := batch(s+1, counter(noon, "a", 200, 500))
		for i := range 500 {
			b.Calls = append(b.Calls, usage.Call{Time: noon, ID: fmt.Sprint(s, i), Tenant: "t", Path: strings.Repeat("p", 200), Status: 200})
		}
		store(t, d, b)
		if s%10 == 9 {
			if err := d.Prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			if used := d.Stats().Bytes; used > bound || used == 0 {
				t.Fatalf("%d bytes in use, bound %d", used, bound)
			}
		}
	}
	if n := requests(t, d, within(time.Hour)); n != 15000 {
		t.Errorf("%d requests, want 15000", n)
	}
}

func TestNumberOfCallsAndDecisionsIsBounded(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon(), func(o *Options) { o.MaxCalls, o.MaxDecisions = 10, 5 })
	b := batch(1)
	for i := range 40 {
		at := noon.Add(time.Duration(i) * time.Millisecond)
		b.Calls = append(b.Calls, usage.Call{Time: at, ID: fmt.Sprint(i), Tenant: "t", Status: 200})
		b.Decisions = append(b.Decisions, usage.Decision{ID: fmt.Sprint(i), Time: at, Tenant: "t"})
	}
	store(t, d, b)
	if err := d.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	cs, err := d.Calls(t.Context(), CallQuery{Query: within(time.Hour)})
	if err != nil || len(cs.Calls) != 10 || cs.Calls[0].ID != "39" {
		t.Errorf("%d calls left, %v", len(cs.Calls), err)
	}
	var n int
	var oldest string
	if err := d.read.QueryRow(`SELECT count(*), min(cast(ref AS INTEGER)) FROM decision`).Scan(&n, &oldest); err != nil || n != 5 || oldest != "35" {
		t.Errorf("%d decisions left, oldest %s, %v", n, oldest, err)
	}
}

func TestCallsArePagedAndFiltered(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	b := batch(1)
	for i := range 25 {
		b.Calls = append(b.Calls, usage.Call{
			Time: noon.Add(-time.Duration(i/5) * time.Second), ID: fmt.Sprint(i), Tenant: "t", API: "a", Application: "app", User: "u" + fmt.Sprint(i%2),
			Verb: "GET", Path: "/p?q=1", Status: 200, Gateway: 150 * time.Microsecond, Backend: 3 * time.Millisecond, Client: "10.0.0.1",
		})
	}
	b.Calls = append(b.Calls, usage.Call{Time: noon, ID: "foreign", Tenant: "another"})
	store(t, d, b)
	seen := map[string]bool{}
	q := CallQuery{Query: within(time.Hour), Limit: 7}
	pages := 0
	for last := noon.Add(time.Hour); ; pages++ {
		p, err := d.Calls(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Calls {
			if seen[c.ID] || c.Time.After(last) || c.ID == "foreign" {
				t.Errorf("call %s at %v is repeated, out of order or not ours", c.ID, c.Time)
			}
			seen[c.ID], last = true, c.Time
			if c.Gateway != 150 || c.Backend != 3000 {
				t.Errorf("latencies %d and %d, want microseconds", c.Gateway, c.Backend)
			}
		}
		if p.Next == "" {
			break
		}
		q.Cursor = p.Next
	}
	if len(seen) != 25 || pages != 3 {
		t.Errorf("%d calls on %d full pages, want 25 on 3", len(seen), pages)
	}
	one, err := d.Calls(t.Context(), CallQuery{Query: within(time.Hour), User: "u1", ID: "3"})
	if err != nil || len(one.Calls) != 1 {
		t.Errorf("by user and id: %+v, %v", one, err)
	}
	if _, err := d.Calls(t.Context(), CallQuery{Query: within(time.Hour), Cursor: "1;DROP"}); err == nil {
		t.Error("a made-up cursor is accepted")
	}
}

func TestServeAnswersAfterTheCommit(t *testing.T) {
	t.Parallel()
	b, err := bus.Embedded(bus.Options{Name: "g"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	d := open(t, t.TempDir(), atNoon())
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, b) }()
	send := func(data []byte) (ack usage.BatchAck) {
		t.Helper()
		for {
			out, err := b.Request(t.Context(), usage.SubjectBatch, data)
			if errors.Is(err, bus.ErrNobody) {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(out, &ack); err != nil {
				t.Fatal(err)
			}
			return ack
		}
	}
	data, _ := json.Marshal(batch(1, counter(noon, "a", 200, 4)))
	for range 3 {
		if ack := send(data); ack.Seq != 1 || ack.Error != "" {
			t.Errorf("ack %+v", ack)
		}
	}
	if n := requests(t, d, within(time.Hour)); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	if ack := send([]byte("{")); ack.Error == "" {
		t.Error("garbage is acknowledged")
	}
	forged := batch(1, counter(noon, "a", 200, 4))
	forged.Gateway = "another"
	data, _ = json.Marshal(forged)
	if ack := send(data); ack.Error == "" || ack.Seq != 0 || d.Stats().Refused != 1 {
		t.Errorf("a batch of another gateway: %+v, %d refused", ack, d.Stats().Refused)
	}
	if n := requests(t, d, within(time.Hour)); n != 4 {
		t.Errorf("%d requests after a forged batch, want 4", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestStoreAfterCloseFailsAndReopenKeepsAll(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), atNoon()
	d := open(t, dir, c)
	store(t, d, batch(1, counter(noon, "a", 200, 4)))
	d.Close()
	if err := d.Store(t.Context(), batch(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("store after close: %v", err)
	}
	d = open(t, dir, c)
	store(t, d, batch(1, counter(noon, "a", 200, 4)), batch(2, counter(noon, "a", 200, 1)))
	if n := requests(t, d, within(time.Hour)); n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
	if _, err := d.write.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, err := Open(dir, Options{Log: quiet}); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a file of a newer version: %v", err)
	}
}

// The test binary itself, started again with this variable, stores batches for
// ever and prints the number of each that was acknowledged.
const childDir = "ANALYTICS_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		d, err := Open(dir, Options{Log: quiet, Now: atNoon().Now})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for seq := uint64(1); ; seq++ {
			if err := d.Store(context.Background(), batch(seq, counter(noon, "a", 200, 1))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Println(seq)
		}
	}
	os.Exit(m.Run())
}

func TestKillLosesNoAcknowledgedBatch(t *testing.T) {
	t.Parallel()
	for range 3 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked, killAt := uint64(0), uint64(5+rand.IntN(60))
		for {
			var n uint64
			if _, err := fmt.Fscanln(out, &n); err != nil {
				break
			}
			if acked = n; acked == killAt {
				cmd.Process.Signal(syscall.SIGKILL)
			}
		}
		cmd.Wait()
		d := open(t, dir, atNoon())
		got := requests(t, d, within(time.Hour))
		if acked == 0 || got < acked || got > acked+1 {
			t.Fatalf("%d batches are stored, %d were acknowledged (one more may have been under way)", got, acked)
		}
		for seq := range acked + 1 { // the gateway sends again what it is not sure of
			store(t, d, batch(seq+1, counter(noon, "a", 200, 1)))
		}
		if got := requests(t, d, within(time.Hour)); got != acked+1 {
			t.Errorf("%d requests after sending all again, want %d", got, acked+1)
		}
	}
}
