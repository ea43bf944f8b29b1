package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// A frame of the log is a 20-byte head, a meta document and a body:
//
//	magic (4) kind (1) zero (3) length of meta (4) length of body (4) checksum of all that and of meta (4)
//	meta, body, checksum of body (4, only with a body)
//
// The head and the name in meta have a checksum of their own, so that damage
// inside a body names its item and loses nothing else, and so that reading can
// go on behind damaged bytes at the next head that checks.
const (
	frameMagic = 0x31524143 // "CAR1", little endian
	headSize   = 20
	maxMeta    = 1 << 20
	maxBody    = 256 << 20
)

type frameKind byte

const (
	frameHead   frameKind = 'H' // first of the file; meta: logHead
	frameReset  frameKind = 'R' // a full snapshot begins: what came before is void
	frameItem   frameKind = 'I' // meta: snapshot.Item without body
	frameCommit frameKind = 'C' // meta: snapshot.Version; what came since the last one counts
)

// logHead says for whom a log was written.
type logHead struct {
	Key  string   `json:"key"`  // fingerprint of the master key
	Envs []string `json:"envs"` // environments of the gateway
}

type frame struct {
	kind    frameKind
	meta    []byte
	body    []byte // nil when only scanned
	at      int64  // offset of the head
	bodyAt  int64
	bodyLen int
	damaged bool // the body does not check
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func putFrame(w *bytes.Buffer, kind frameKind, meta any, body []byte) error {
	m, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	if len(m) > maxMeta || len(body) > maxBody {
		return fmt.Errorf("frame of %d bytes is too large", len(m)+len(body))
	}
	var head [headSize]byte
	binary.LittleEndian.PutUint32(head[0:], frameMagic)
	head[4] = byte(kind)
	binary.LittleEndian.PutUint32(head[8:], uint32(len(m)))
	binary.LittleEndian.PutUint32(head[12:], uint32(len(body)))
	sum := crc32.Update(crc32.Checksum(head[:16], castagnoli), castagnoli, m)
	binary.LittleEndian.PutUint32(head[16:], sum)
	w.Write(head[:])
	w.Write(m)
	if len(body) > 0 {
		w.Write(body)
		w.Write(binary.LittleEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli)))
	}
	return nil
}

func putItem(w *bytes.Buffer, it snapshot.Item) error {
	body := it.Body
	it.Body = nil
	return putFrame(w, frameItem, it, body)
}

// errBroken says that no frame starts at an offset.
var errBroken = errors.New("no frame")

// readFrame reads the frame at off of a file of the given size and checks it.
// It gives the offset behind it. Damage of the body only sets damaged.
func readFrame(f io.ReaderAt, off, size int64) (frame, int64, error) {
	var head [headSize]byte
	if size-off < headSize {
		return frame{}, 0, errBroken
	}
	if _, err := f.ReadAt(head[:], off); err != nil {
		return frame{}, 0, fmt.Errorf("read snapshot log: %w", err)
	}
	metaLen, bodyLen := int64(binary.LittleEndian.Uint32(head[8:])), int64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint32(head[0:]) != frameMagic || metaLen > maxMeta || bodyLen > maxBody {
		return frame{}, 0, errBroken
	}
	end := off + headSize + metaLen
	if bodyLen > 0 {
		end += bodyLen + 4
	}
	if off+headSize+metaLen > size {
		return frame{}, 0, errBroken
	}
	fr := frame{kind: frameKind(head[4]), at: off, bodyAt: off + headSize + metaLen, bodyLen: int(bodyLen)}
	fr.meta = make([]byte, metaLen)
	if _, err := f.ReadAt(fr.meta, off+headSize); err != nil {
		return frame{}, 0, fmt.Errorf("read snapshot log: %w", err)
	}
	sum := crc32.Update(crc32.Checksum(head[:16], castagnoli), castagnoli, fr.meta)
	if sum != binary.LittleEndian.Uint32(head[16:]) || end > size {
		return frame{}, 0, errBroken
	}
	if bodyLen == 0 {
		return fr, end, nil
	}
	b := make([]byte, bodyLen+4)
	if _, err := f.ReadAt(b, fr.bodyAt); err != nil {
		return frame{}, 0, fmt.Errorf("read snapshot log: %w", err)
	}
	fr.body = b[:bodyLen]
	fr.damaged = crc32.Checksum(fr.body, castagnoli) != binary.LittleEndian.Uint32(b[bodyLen:])
	return fr, end, nil
}

// nextFrame finds the first offset from off on at which a frame checks.
func nextFrame(f *os.File, off, size int64) (int64, bool) {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	buf := make([]byte, 1<<20)
	for off < size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if err != nil && err != io.EOF {
			return 0, false
		}
		for i := 0; ; {
			j := bytes.Index(buf[i:n], magic)
			if j < 0 {
				break
			}
			if _, _, err := readFrame(f, off+int64(i+j), size); err == nil {
				return off + int64(i+j), true
			}
			i += j + 1
		}
		if n < len(magic) {
			return 0, false
		}
		off += int64(n - len(magic) + 1)
	}
	return 0, false
}
