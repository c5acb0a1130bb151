package test

import (
	"os"
	"os/exec"
	"testing"
)

// BenchmarkStart has what starting a program costs, by itself, under a read
// lock, and by bubblewrap.
func BenchmarkStart(b *testing.B) {
	store := manyDeployments(b, b.TempDir(), 10)
	for name, argv := range map[string][]string{
		"by itself":  {"/bin/true"},
		"exec":       {released, "exec", "runtime0", "/bin/true"},
		"bubblewrap": {"bwrap", "--ro-bind", "/", "/", "/bin/true"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command(argv[0], argv[1:]...)
				cmd.Env = append(os.Environ(), "BERTH_STORE="+store)
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%q: %v: %s", argv, err, out)
				}
			}
		})
	}
}
