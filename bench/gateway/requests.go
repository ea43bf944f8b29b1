package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

// readRequests reads what writeRequests wrote.
func readRequests(file string) ([][]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint32(b))
		if len(b) < 4+n {
			return nil, fmt.Errorf("read %s: cut off", file)
		}
		out, b = append(out, b[4:4+n]), b[4+n:]
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read %s: no requests", file)
	}
	return out, nil
}

func writeRequests(file string, requests [][]byte) error {
	var b []byte
	for _, r := range requests {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(r))), r...)
	}
	return os.WriteFile(file, b, 0o600)
}
