package identity

import (
	"net/netip"
	"sync"
	"time"
)

// guard slows guessing down. Only failures count; a success clears the pair of
// account and address. Delays grow from the fifth failure of a pair; an
// account attacked from many addresses and an address that tries many accounts
// are slowed too, later and less, so that nobody can lock somebody else out
// for long. Addresses of this machine are not counted across accounts.
type guard struct {
	mu   sync.Mutex
	seen map[string]*failures
}

type failures struct {
	count int
	last  time.Time
	next  time.Time // attempts before this are refused unseen
}

// rule is how one kind of key is slowed: from the first-th failure on the
// delay doubles from step up to most.
type rule struct {
	first      int
	step, most time.Duration
}

var (
	pairRule    = rule{first: 5, step: time.Second, most: 5 * time.Minute}
	accountRule = rule{first: 50, step: 500 * time.Millisecond, most: 5 * time.Second}
	addressRule = rule{first: 30, step: time.Second, most: time.Minute}
)

const (
	forgetAfter = 15 * time.Minute
	maxSeen     = 100_000
)

func newGuard() *guard { return &guard{seen: map[string]*failures{}} }

type guardKey struct {
	key  string
	rule rule
}

func keysOf(account, addr string) []guardKey {
	keys := []guardKey{{"p\x00" + account + "\x00" + addr, pairRule}, {"a\x00" + account, accountRule}}
	if ip, err := netip.ParseAddr(addr); err == nil && !ip.Unmap().IsLoopback() {
		keys = append(keys, guardKey{"i\x00" + addr, addressRule})
	}
	return keys
}

// wait is how long the account must not be tried from the address.
func (g *guard) wait(account, addr string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var longest time.Duration
	for _, k := range keysOf(account, addr) {
		if f := g.seen[k.key]; f != nil {
			longest = max(longest, f.next.Sub(now))
		}
	}
	return longest
}

func (g *guard) failed(account, addr string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range keysOf(account, addr) {
		f := g.seen[k.key]
		if f == nil {
			g.makeRoom(now)
			f = &failures{}
			g.seen[k.key] = f
		}
		if now.Sub(f.last) > forgetAfter {
			*f = failures{}
		}
		f.count++
		f.last = now
		if over := f.count - k.rule.first; over >= 0 {
			f.next = now.Add(min(k.rule.most, k.rule.step<<min(over, 20)))
		}
	}
}

func (g *guard) succeeded(account, addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) == 0 {
		return
	}
	delete(g.seen, "p\x00"+account+"\x00"+addr)
	delete(g.seen, "a\x00"+account)
}

// makeRoom keeps the table bounded: forgotten entries go first, then, under a
// flood of made-up accounts, whichever the map yields.
func (g *guard) makeRoom(now time.Time) {
	if len(g.seen) < maxSeen {
		return
	}
	for k, f := range g.seen {
		if now.Sub(f.last) > forgetAfter {
			delete(g.seen, k)
		}
	}
	for k := range g.seen {
		if len(g.seen) < maxSeen*9/10 {
			return
		}
		delete(g.seen, k)
	}
}
