"""A Prometheus exporter in 30 lines: ``python examples/exporter.py [PORT]``. ``kvmscope serve`` is the complete one."""

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import kvmscope


def lines(host: kvmscope.Host) -> Iterator[str]:
    """The exits of each vCPU, by the id of its VM. A vCPU that could not be read has no line."""
    sample = host.read()
    block = sample.block("kvm", kvmscope.Scope.VCPU)
    yield "# TYPE kvm_vcpu_exits_total counter"
    for row, exits in zip(block.rows, block.column("exits"), strict=True) if block else ():
        vm, vcpu = sample.vms.id[sample.vcpus.vm[row]], sample.vcpus.id[row]
        yield f'kvm_vcpu_exits_total{{vm="{vm:016x}",vcpu="{vcpu}"}} {exits}'


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write("".join(f"{line}\n" for line in lines(host)).encode())


if __name__ == "__main__":
    with kvmscope.open_host() as host:
        HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9797), Metrics).serve_forever()
