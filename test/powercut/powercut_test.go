package powercut

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// cutsEach is how many cuts every file system gets in the short form.
const cutsEach = 100

// Whenever the power goes, the store is whole when it comes back, has what was
// acknowledged, and a second run of the same command finishes the work.
func TestAStoreSurvivesThePowerCut(t *testing.T) {
	fmt.Printf("powercut: seed %d\n", *seed)
	shelf := newShelf(t)
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(*seed, uint64(i)))
			// Several short lives: the first installation of all, which makes
			// the store, is cut too.
			const lives = 5
			for range lives * rounds() {
				s := newSession(t, shelf.newDisk(t, k), random)
				s.play(cutsEach/lives, s.anything)
				s.judge()
				if t.Failed() {
					return
				}
			}
		})
	}
}

// The cuts above would show it if an installation published what is not on the
// disk: --no-sync does just that.
func TestWithoutSyncIsCaught(t *testing.T) {
	const tries = 40
	shelf := newShelf(t)
	random := rand.New(rand.NewPCG(*seed, 1000))
	for done := 0; done < tries; {
		s := newSession(t, shelf.newDisk(t, kinds[0]), random)
		s.play(4, s.unsynced)
		if s.incomplete() > 0 {
			return
		}
		done += len(s.cuts)
	}
	t.Errorf("ext4, seed %d: of %d cuts in installations with --no-sync none left an incomplete version: the test is blind", *seed, tries)
}
