package http1

import (
	"fmt"
	"io"
	"strconv"
)

// write sends the request, or all but its body, which a goroutine then sends.
func (u *upstream) write(r *Request) error {
	out := getBuffer(small)[:0]
	if r.Method == "CONNECT" || !isToken(r.Method) || !validTarget(r.Target) || !validHost(r.Host) {
		u.out = out
		return fmt.Errorf("%w: method, target or host", ErrRequest)
	}
	out = append(append(out, r.Method...), ' ')
	out = append(append(out, r.Target...), " HTTP/1.1\r\nHost: "...)
	out = append(append(out, r.Host...), crlf...)
	out, err := appendFields(out, r.Header, false)
	if err != nil {
		u.out = out
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if r.Upgrade != "" {
		out = append(out, "Connection: Upgrade\r\n"...)
		if out, err = appendFields(out, Header{{"Upgrade", r.Upgrade}}, true); err != nil {
			u.out = out
			return fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	length := r.Length
	if r.Body == nil {
		length = 0
	}
	switch {
	case length < 0:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case length > 0 || r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH":
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, length, 10)
		out = append(out, crlf...)
	}
	out = append(out, crlf...)
	u.out, u.vecs[0] = out, out
	if length == 0 {
		return u.sendWhole()
	}
	if t, ok := r.Body.(taker); ok && length > 0 {
		if p, whole := t.Take(); whole && int64(len(p)) == length {
			if len(out)+len(p) <= small {
				u.out = append(out, p...)
				u.vecs[0] = u.out
				return u.sendWhole()
			}
			u.vecs[1] = p
			return u.send(2)
		}
	}
	if err := u.send(1); err != nil {
		return err
	}
	if u.pumped == nil {
		u.pumped = make(chan error, 1)
	}
	u.pumping = true
	go u.pump(r.Body, length, r.Trailer)
	return nil
}

// sendWhole sends a request in one piece, at once or when its answer is waited for.
func (u *upstream) sendWhole() error {
	if u.sock == nil || u.probe == nil {
		return u.send(1)
	}
	u.ask, u.vecs[0] = u.out, nil
	return nil
}

func validTarget(t string) bool {
	for i := range len(t) {
		if c := t[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return t != ""
}

func (u *upstream) send(n int) error {
	u.wdl.arm(u.e.c.sweep.after(u.timeout))
	var err error
	if n == 1 {
		_, err = u.to.Write(u.vecs[0])
	} else {
		u.vec = u.vecs[:n]
		_, err = u.vec.WriteTo(u.nc)
	}
	if !u.wdl.off() && err != nil {
		err = ErrTimeout
	}
	clear(u.vecs[:n])
	return err
}

// pump sends the body while the caller waits for an answer.
func (u *upstream) pump(body io.Reader, length int64, trailer func() Header) {
	err := u.pumpBody(body, length, trailer)
	if u.failed.Load() {
		_ = u.nc.SetReadDeadline(past)
	}
	u.pumped <- err
}

func (u *upstream) pumpBody(body io.Reader, length int64, trailer func() Header) error {
	buf := getBuffer(wide)
	defer putBuffer(buf)
	const room = 10 // a chunk's size line before the data, and CR LF behind it
	sent := int64(0)
	for {
		n, err := body.Read(buf[room : len(buf)-2])
		if n > 0 {
			if sent += int64(n); length >= 0 && sent > length {
				u.failed.Store(true)
				return ErrTooLong
			}
			u.src.dl.push(u.e.c.sweep.after(u.timeout))
			p := buf[room : room+n]
			if length < 0 {
				p = chunkOf(buf, room, n)
			}
			u.vecs[0] = p
			if err := u.send(1); err != nil {
				return err
			}
			u.src.dl.push(u.e.c.sweep.after(u.timeout))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			u.failed.Store(true)
			return err
		}
	}
	if length >= 0 {
		if sent != length {
			u.failed.Store(true)
			return errIncomplete
		}
		return nil
	}
	end := append(buf[:0], "0\r\n"...)
	if trailer != nil {
		with, err := appendTrailer(end, trailer())
		if err == nil {
			end = with
		}
	}
	u.vecs[0] = append(end, crlf...)
	return u.send(1)
}

// chunkOf frames the n bytes at room in place.
func chunkOf(buf []byte, room, n int) []byte {
	var digits [8]byte
	size := append(strconv.AppendInt(digits[:0], int64(n), 16), crlf...)
	begin := room - len(size)
	copy(buf[begin:], size)
	buf[room+n], buf[room+n+1] = '\r', '\n'
	return buf[begin : room+n+2]
}
