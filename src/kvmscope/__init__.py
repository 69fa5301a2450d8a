"""kvmscope: see inside KVM."""
