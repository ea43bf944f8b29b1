package foreign

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const largest = 24 << 20 // bytes of one message

// service answers as the interoperability tests of gRPC ask for it.
type service struct {
	pb.UnimplementedTestServiceServer
	ended chan error // of calls that were given up, why
}

func (s *service) EmptyCall(ctx context.Context, in *pb.Empty) (*pb.Empty, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch {
	case md.Get("x-wait") != nil:
		<-ctx.Done()
		s.ended <- ctx.Err()
		return nil, ctx.Err()
	case md.Get("x-look") != nil: // what of it arrived
		if err := grpc.SetTrailer(ctx, metadata.Pairs("x-leaked", strings.Join(md.Get("authorization"), " "))); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (s *service) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("x-initial"); v != nil {
		if err := grpc.SetHeader(ctx, metadata.MD{"x-initial": v}); err != nil {
			return nil, err
		}
	}
	if v := md.Get("x-trailing-bin"); v != nil {
		if err := grpc.SetTrailer(ctx, metadata.MD{"x-trailing-bin": v}); err != nil {
			return nil, err
		}
	}
	if st := in.GetResponseStatus(); st.GetCode() != 0 {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	return &pb.SimpleResponse{Payload: payload(int(in.GetResponseSize())), Username: strconv.Itoa(len(in.GetPayload().GetBody()))}, nil
}

func (s *service) StreamingOutputCall(in *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: payload(int(p.GetSize()))}); err != nil {
			return err
		}
	}
	if st := in.GetResponseStatus(); st.GetCode() != 0 {
		return status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	return nil
}

func (s *service) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	total := 0
	for {
		m, err := in.Recv()
		if err == io.EOF {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(total)})
		}
		if err != nil {
			s.ended <- err
			return err
		}
		total += len(m.GetPayload().GetBody())
	}
}

func (s *service) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		m, err := both.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			s.ended <- err
			return err
		}
		if st := m.GetResponseStatus(); st.GetCode() != 0 {
			return status.Error(codes.Code(st.GetCode()), st.GetMessage())
		}
		for _, p := range m.GetResponseParameters() {
			if err := both.Send(&pb.StreamingOutputCallResponse{Payload: payload(int(p.GetSize()))}); err != nil {
				return err
			}
		}
	}
}

func payload(size int) *pb.Payload { return &pb.Payload{Body: bytes.Repeat([]byte{'x'}, size)} }

func asks(sizes ...int) (out []*pb.ResponseParameters) {
	for _, n := range sizes {
		out = append(out, &pb.ResponseParameters{Size: int32(n)})
	}
	return out
}

// below is a connection whose methods are called below a path: the API's.
type below struct {
	*grpc.ClientConn
	path string
}

func (b below) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	return b.ClientConn.Invoke(ctx, b.path+method, in, out, opts...)
}

func (b below) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return b.ClientConn.NewStream(ctx, d, b.path+method, opts...)
}

func rpcServer(t *testing.T, secure credentials.TransportCredentials) (*service, string) {
	t.Helper()
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s := &service{ended: make(chan error, 16)}
	server := grpc.NewServer(grpc.Creds(secure), grpc.MaxRecvMsgSize(2*largest))
	pb.RegisterTestServiceServer(server, s)
	go func() { _ = server.Serve(ln) }() // ends with Stop
	t.Cleanup(server.Stop)
	return s, ln.Addr().String()
}

func rpcClient(t *testing.T, base, path string) pb.TestServiceClient {
	t.Helper()
	scheme, addr, _ := strings.Cut(base, "://")
	creds := insecure.NewCredentials()
	if scheme == "https" {
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // the node under test signs its own
	}
	conn := must[*grpc.ClientConn](t)(grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*largest))))
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewTestServiceClient(below{conn, path})
}
