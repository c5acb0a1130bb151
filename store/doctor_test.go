package store

import "testing"

// TestNetworkFileSystem has the numbers as statfs(2) gives them: on 64-bit
// machines the upper half of Type may be set or not.
func TestNetworkFileSystem(t *testing.T) {
	for kind, want := range map[int64]string{
		0x6969: "NFS", 0xff534d42: "SMB", -0xacb2be: "SMB", 0xfe534d42: "SMB", 0xc36400: "Ceph", 0x01021997: "9p",
		0xef53: "", 0x58465342: "", 0x9123683e: "", 0x01021994: "", 0x794c7630: "",
	} {
		if got := networkFileSystem(kind); got != want {
			t.Errorf("%#x: %q, not %q", kind, got, want)
		}
	}
}
