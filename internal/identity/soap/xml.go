package soap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a request.
const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 32
	maxNodes = 20_000
)

// node is an element. Comments and processing instructions are dropped.
type node struct {
	space, name string
	text        string // of the element itself
	null        bool   // xsi:nil
	kids        []*node
	raw         []byte // the text while it is read
}

const (
	soap11 = "http://schemas.xmlsoap.org/soap/envelope/"
	soap12 = "http://www.w3.org/2003/05/soap-envelope"
	xsi    = "http://www.w3.org/2001/XMLSchema-instance"
)

var errDTD = errors.New("the document must have no DTD")

// parse reads a document without a document type: there are no entities but
// those of XML itself, and nothing is fetched.
func parse(b []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(label string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(label, "utf-8") || strings.EqualFold(label, "us-ascii") {
			return in, nil
		}
		return nil, fmt.Errorf("the encoding %.32q is not UTF-8", label)
	}
	var root *node
	var open []*node
	count := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("malformed XML: %w", err)
		}
		switch t := tok.(type) {
		case xml.Directive:
			return nil, errDTD
		case xml.StartElement:
			if count++; count > maxNodes || len(open) == maxDepth {
				return nil, errors.New("the document has too many elements or is nested too deeply")
			}
			n := &node{space: t.Name.Space, name: t.Name.Local}
			for _, a := range t.Attr {
				n.null = n.null || a.Name.Space == xsi && a.Name.Local == "nil" && (a.Value == "true" || a.Value == "1")
			}
			switch {
			case len(open) > 0:
				up := open[len(open)-1]
				up.kids = append(up.kids, n)
			case root != nil:
				return nil, errors.New("the document has two roots")
			default:
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			top := open[len(open)-1]
			top.text, top.raw = string(top.raw), nil
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				top := open[len(open)-1]
				top.raw = append(top.raw, t...)
			}
		}
	}
	if root == nil {
		return nil, errors.New("the document is empty")
	}
	return root, nil
}

// operationOf is the first element of the envelope's body.
func operationOf(root *node) (*node, error) {
	if root.name != "Envelope" || root.space != soap11 && root.space != soap12 {
		return nil, errors.New("the document is not a SOAP envelope")
	}
	body := root.kid("Body")
	if body == nil || len(body.kids) == 0 {
		return nil, errors.New("the SOAP body is empty")
	}
	return body.kids[0], nil
}

// kid is the first child of a name, whatever its namespace: clients differ.
func (n *node) kid(name string) *node {
	if n == nil {
		return nil
	}
	for _, k := range n.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

// str is the text of a child, empty without one.
func (n *node) str(name string) string {
	k := n.kid(name)
	if k == nil || k.null {
		return ""
	}
	return strings.TrimSpace(k.text)
}

// secret is str with the white space that a password may have.
func (n *node) secret(name string) string {
	k := n.kid(name)
	if k == nil || k.null {
		return ""
	}
	return k.text
}

// list are the texts of all children of a name.
func (n *node) list(name string) []string {
	var out []string
	for _, k := range n.all(name) {
		if s := strings.TrimSpace(k.text); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (n *node) all(name string) []*node {
	var out []*node
	if n == nil {
		return nil
	}
	for _, k := range n.kids {
		if k.name == name && !k.null {
			out = append(out, k)
		}
	}
	return out
}

// bean is a structured return value. Its fields come in alphabetical order.
type bean struct {
	space, kind string
	fields      []field
}

// field is one of a bean's: a nil value is xsi:nil, a list repeats.
type field struct {
	name  string
	value any
}

// response renders what an operation returns: nothing, one value, or a list of them.
func response(op, space string, ret []any) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + soap11 + `"><soapenv:Body><ns:` + op + `Response xmlns:ns="`)
	escape(&b, space)
	b.WriteString(`">`)
	for _, v := range ret {
		value(&b, "ns:return", v, true)
	}
	b.WriteString(`</ns:` + op + `Response></soapenv:Body></soapenv:Envelope>`)
	return b.Bytes()
}

func value(b *bytes.Buffer, tag string, v any, top bool) {
	switch v := v.(type) {
	case nil:
		b.WriteString("<" + tag + ` xmlns:xsi="` + xsi + `" xsi:nil="true"/>`)
	case []string:
		for _, s := range v {
			value(b, tag, s, false)
		}
	case []*bean:
		for _, e := range v {
			value(b, tag, e, false)
		}
	case *bean:
		b.WriteString("<" + tag + ` xmlns:ax21="`)
		escape(b, v.space)
		b.WriteString(`" xmlns:xsi="` + xsi + `" xsi:type="ax21:` + v.kind + `">`)
		for _, f := range v.fields {
			value(b, "ax21:"+f.name, f.value, false)
		}
		b.WriteString("</" + tag + ">")
	default:
		b.WriteString("<" + tag + ">")
		escape(b, fmt.Sprint(v))
		b.WriteString("</" + tag + ">")
	}
}

func escape(b *bytes.Buffer, s string) { _ = xml.EscapeText(b, []byte(s)) } // a buffer takes everything

// faultXML renders a SOAP 1.1 fault.
func faultXML(code, text string) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + soap11 + `"><soapenv:Body><soapenv:Fault><faultcode>soapenv:` + code + `</faultcode><faultstring>`)
	escape(&b, text)
	b.WriteString(`</faultstring><detail/></soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
	return b.Bytes()
}
