// Package traffic makes limits hold over several gateways. Each gateway counts by
// itself and tells the traffic role its totals; the traffic role (Hub) adds them
// up per window and answers every gateway with what all the others counted, and
// everybody with the counters that are used up. No call ever waits for it: while
// it is away, gateways go on with their own counts.
//
// A period (100 ms by default) is the age of what a gateway knows about the
// others: half of it passes at most until a gateway reports, the other half until
// the Hub answers. See Bound for what that means for a limit.
package traffic

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/cardea-apim/cardea/internal/throttle"
)

// DefaultPeriod is the default age of what gateways know about each other.
const DefaultPeriod = 100 * time.Millisecond

// Shards is into how many parts counters are divided by their key, so that
// several hubs may share the work.
const Shards = 8

// Subjects on the bus.
const (
	subjectReport = "throttle.report." // + shard: gateway to hub, its own totals
	subjectTotals = "throttle.total."  // + hex of the gateway's name: hub to gateway, the totals of all others
	subjectRefuse = "throttle.refuse"  // hub to all: counters that are used up
	subjectJoin   = "throttle.join"    // gateway to hubs: send me what is known
	subjectHello  = "throttle.hello"   // hub to all: report everything; or, with a name, to one
	subjectClock  = "throttle.clock"   // hub to all, every second
)

// GatewaySubjects are the subjects an Exchange of the gateway sends to and hears.
func GatewaySubjects(gateway string) (publish, subscribe []string) {
	return []string{subjectReport + "*", subjectJoin}, []string{totalsFor(gateway), subjectRefuse, subjectHello, subjectClock}
}

// HubSubjects are the subjects a Hub sends to and hears.
func HubSubjects() (publish, subscribe []string) {
	return []string{subjectTotals + "*", subjectRefuse, subjectHello, subjectClock}, []string{subjectReport + "*", subjectJoin}
}

// Bus is what both sides need of a bus; *bus.Bus has it. Messages may be lost.
type Bus interface {
	Publish(subject string, data []byte) error
	Subscribe(subject string, fn func(subject string, data []byte)) (cancel func(), err error)
}

// Bound is by how many calls a limit can be exceeded in one window: what arrives
// at all gateways together within one period, after the limit was reached in
// truth and before the last of them knows. Rate is in calls per second over all
// gateways. One gateway alone is exact. Transit on the bus adds to the period.
func Bound(rate float64, gateways int, period time.Duration) int64 {
	if gateways <= 1 || rate <= 0 || period <= 0 {
		return 0
	}
	return int64(math.Ceil(rate * period.Seconds()))
}

func shardOf(k *throttle.Key) int { return int(k[1]) % Shards }

func totalsFor(gateway string) string { return subjectTotals + hex.EncodeToString([]byte(gateway)) }

func reportTo(shard int) string { return subjectReport + strconv.Itoa(shard) }

// message is every message of the exchange. Which fields matter depends on the subject.
type message struct {
	from    string // gateway or hub
	boot    int64  // start of the sender, Unix nanoseconds: later is newer
	seq     uint64 // per sender, boot and shard, without gaps
	shard   int
	durable bool  // the gateway keeps long windows over a restart
	now     int64 // the sender's clock, Unix nanoseconds
	to      string
	items   []item
}

// item is one counter: value is a count, or for refusals the end in Unix nanoseconds.
type item struct {
	throttle.Counter
	number, gen, limit, value int64
}

const (
	wireVersion = 1
	maxName     = 255
	maxItems    = 4096 // in one message
)

var errMalformed = errors.New("malformed throttle message")

func (m *message) encode() []byte {
	b := make([]byte, 0, 64+len(m.from)+len(m.to)+len(m.items)*48)
	b = append(b, wireVersion)
	b = text(b, m.from)
	b = text(b, m.to)
	b = binary.AppendVarint(b, m.boot)
	b = binary.AppendUvarint(b, m.seq)
	b = append(b, byte(m.shard))
	if m.durable {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendVarint(b, m.now)
	b = binary.AppendUvarint(b, uint64(len(m.items)))
	for i := range m.items {
		it := &m.items[i]
		b = append(b, it.Key[:]...)
		b = append(b, byte(it.Kind))
		for _, v := range [...]int64{int64(it.Window), it.number, it.gen, it.limit, it.value} {
			b = binary.AppendVarint(b, v)
		}
	}
	return b
}

func text(b []byte, s string) []byte {
	s = s[:min(len(s), maxName)]
	return append(append(b, byte(len(s))), s...)
}

// reader takes fields off a message; after the first failure it gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.take(int(r.take(1)[0]))) }

func decode(b []byte) (*message, error) {
	r := &reader{b: b}
	if r.take(1)[0] != wireVersion {
		return nil, errMalformed
	}
	m := &message{from: r.text(), to: r.text(), boot: r.varint(), seq: r.uvarint()}
	m.shard, m.durable, m.now = int(r.take(1)[0]), r.take(1)[0] == 1, r.varint()
	n := r.uvarint()
	if r.bad || n > maxItems || m.shard >= Shards {
		return nil, errMalformed
	}
	m.items = make([]item, 0, n)
	for range n {
		var it item
		copy(it.Key[:], r.take(16))
		it.Kind = throttle.Kind(r.take(1)[0])
		it.Window = time.Duration(r.varint())
		it.number, it.gen, it.limit, it.value = r.varint(), r.varint(), r.varint(), r.varint()
		if r.bad || it.Window <= 0 || it.value < 0 || it.number > math.MaxInt64/int64(it.Window)-1 || it.number < 0 {
			return nil, errMalformed
		}
		m.items = append(m.items, it)
	}
	if r.bad || len(r.b) != 0 {
		return nil, errMalformed
	}
	return m, nil
}
