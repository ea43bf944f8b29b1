package report

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cardea-apim/cardea/internal/usage"
)

// spool keeps on disk what is not acknowledged, so that a restart sends it:
// numbered batches, each a file, and fragments that will become the next
// batch, a log. Nothing is fsynced: it must outlive the process, and what a
// power cut may take are counts of the last moments.
type spool struct {
	dir  string
	log  *os.File
	size int64
	next int // number of the next file, only for order
}

const (
	batchSuffix = ".batch"
	poolName    = "pool.log"
	maxPool     = 64 << 20 // bytes of fragments after which they are merged
	maxFrame    = 256 << 20
)

var crc = crc32.MakeTable(crc32.Castagnoli)

// fragment is a part of the batch that will have the number Seq of Boot.
type fragment = usage.Batch

// openSpool reads what an earlier process left. Batches come in the order they
// must be sent, all of them of the gateway: those of a process that had another
// name are sent under this one, because only a gateway's own are taken.
func openSpool(dir, gateway string) (*spool, []stored, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	s := &spool{dir: dir}
	names, err := filepath.Glob(filepath.Join(dir, "*"+batchSuffix))
	if err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	slices.Sort(names)
	var list []stored
	last := map[string]uint64{} // boot to its highest number
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(name), "%d", &n); err == nil {
			s.next = max(s.next, n+1)
		}
		frames, err := readFrames(name)
		if err != nil {
			return nil, nil, fmt.Errorf("open spool: %w", err)
		}
		from := len(list)
		for _, f := range frames {
			var b usage.Batch
			if err := json.Unmarshal(f, &b); err != nil {
				break
			}
			last[b.Boot] = max(last[b.Boot], b.Seq)
			if b.Gateway != gateway {
				b.Gateway = gateway
				if f, err = json.Marshal(&b); err != nil {
					return nil, nil, fmt.Errorf("open spool: %w", err)
				}
			}
			list = append(list, stored{seq: b.Seq, data: f})
		}
		if len(list) == from {
			os.Remove(name) // nothing whole is in it
			continue
		}
		list[len(list)-1].file = name
	}
	rest, err := s.recoverPool(last, gateway)
	if err != nil {
		return nil, nil, err
	}
	return s, append(list, rest...), nil
}

// recoverPool makes a batch of the fragments, unless that batch was written.
func (s *spool) recoverPool(last map[string]uint64, gateway string) ([]stored, error) {
	name := filepath.Join(s.dir, poolName)
	frames, err := readFrames(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	p := newPool()
	var boot string
	var seq uint64
	for _, f := range frames {
		var b fragment
		if err := json.Unmarshal(f, &b); err != nil {
			break
		}
		if b.Seq <= last[b.Boot] {
			continue
		}
		boot, seq = b.Boot, b.Seq
		p.merge(&b)
	}
	var rest []stored
	if !p.empty() {
		b := p.batch()
		b.Gateway, b.Boot, b.Seq = gateway, boot, seq
		if rest, err = s.put(&b); err != nil {
			return nil, err
		}
	}
	return rest, s.clearPool()
}

// stored is a batch that has its number and may have been received. Parts of
// one pool share a file, which goes with the last of them.
type stored struct {
	file string // empty: not the last part, or not on disk
	seq  uint64
	data []byte
}

// maxBatch is the largest encoded batch that is sent, bytes: less than what a
// bus carries in one message.
const maxBatch = 512 << 10

// put numbers what is in b, from b.Seq on, in as many batches as its size asks
// for, and writes them as one file that is whole or absent.
func (s *spool) put(b *usage.Batch) ([]stored, error) {
	out, err := split(nil, b, b.Seq)
	if err != nil || s == nil {
		return out, err
	}
	var file []byte
	for i := range out {
		file = append(file, frame(out[i].data)...)
	}
	name := filepath.Join(s.dir, fmt.Sprintf("%012d%s", s.next, batchSuffix))
	s.next++
	if err := os.WriteFile(name+".tmp", file, 0o600); err != nil {
		return out, fmt.Errorf("spool batch: %w", err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return out, fmt.Errorf("spool batch: %w", err)
	}
	out[len(out)-1].file = name
	return out, nil
}

// split halves a batch until each part is small enough.
func split(out []stored, b *usage.Batch, seq uint64) ([]stored, error) {
	part := *b
	part.Seq = seq
	data, err := json.Marshal(&part)
	if err != nil {
		return out, fmt.Errorf("encode batch: %w", err)
	}
	if len(data) <= maxBatch || len(b.Counters) < 2 && len(b.Calls) < 2 && len(b.Decisions) < 2 {
		return append(out, stored{seq: seq, data: data}), nil
	}
	x, y, z := (len(b.Counters)+1)/2, (len(b.Calls)+1)/2, (len(b.Decisions)+1)/2
	first, second := *b, *b
	first.Counters, first.Calls, first.Decisions = b.Counters[:x], b.Calls[:y], b.Decisions[:z]
	second.Counters, second.Calls, second.Decisions, second.Dropped = b.Counters[x:], b.Calls[y:], b.Decisions[z:], 0
	if out, err = split(out, &first, seq); err != nil {
		return out, err
	}
	return split(out, &second, out[len(out)-1].seq+1)
}

// drop removes an acknowledged batch.
func (s *spool) drop(b *stored) error {
	if s == nil || b.file == "" {
		return nil
	}
	if err := os.Remove(b.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("drop spooled batch: %w", err)
	}
	return nil
}

// add appends a fragment. full tells that the log should be merged.
func (s *spool) add(f *fragment) (full bool, err error) {
	if s == nil {
		return false, nil
	}
	data, err := json.Marshal(f)
	if err != nil {
		return false, fmt.Errorf("encode fragment: %w", err)
	}
	if s.log == nil {
		s.log, err = os.OpenFile(filepath.Join(s.dir, poolName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return false, fmt.Errorf("spool fragment: %w", err)
		}
	}
	n, err := s.log.Write(frame(data))
	s.size += int64(n)
	if err != nil {
		return false, fmt.Errorf("spool fragment: %w", err)
	}
	return s.size > maxPool, nil
}

// rewrite replaces the fragments by their sum.
func (s *spool) rewrite(f *fragment) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode fragment: %w", err)
	}
	name := filepath.Join(s.dir, poolName)
	if err := os.WriteFile(name+".tmp", frame(data), 0o600); err != nil {
		return fmt.Errorf("merge fragments: %w", err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("merge fragments: %w", err)
	}
	s.closeLog()
	s.size = int64(len(data))
	return nil
}

// clearPool forgets the fragments: they are in a batch.
func (s *spool) clearPool() error {
	if s == nil {
		return nil
	}
	s.closeLog()
	s.size = 0
	if err := os.Remove(filepath.Join(s.dir, poolName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

func (s *spool) closeLog() {
	if s != nil && s.log != nil {
		s.log.Close()
		s.log = nil
	}
}

// frame is length, CRC-32C and data.
func frame(data []byte) []byte {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint32(b, uint32(len(data)))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(data, crc))
	return append(b, data...)
}

// readFrames reads whole frames up to the first that is torn or damaged.
func readFrames(name string) ([][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var out [][]byte
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return out, nil
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxFrame {
			return out, nil
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(r, data); err != nil || crc32.Checksum(data, crc) != binary.BigEndian.Uint32(head[4:]) {
			return out, nil
		}
		out = append(out, data)
	}
}
