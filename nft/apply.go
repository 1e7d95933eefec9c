package nft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// Outcome is what an apply or remove did.
type Outcome string

// Outcomes.
const (
	Created   Outcome = "created"
	Unchanged Outcome = "unchanged"
	Updated   Outcome = "updated"  // elements, routing or left-overs alone
	Replaced  Outcome = "replaced" // the table's rules
	Removed   Outcome = "removed"
	Absent    Outcome = "absent" // nothing was there to remove
)

// Result tells what an apply found and did.
type Result struct {
	Outcome     Outcome
	Differences []rules.Difference // from the wanted state, before
	Previous    *Tag               // of the state that was there
	Foreign     []ForeignChain
	LockHeld    *Holder       // of the lock's table, where it went on without the lock; else nil
	Read        time.Duration // reading what was there
	Commit      time.Duration // changing it
	Verify      time.Duration // reading back and comparing
	Kept        int           // connections that were open before, and go on past the proxy
	Reset       int           // captured connections that a drain left for the remove to end
	Uncounted   error         // why there may have been more
	Unlisted    error         // why it is not known which are open: they may be reset; nil where it is
}

const (
	maxRetryPause = 16 * time.Millisecond
	maxUnlocked   = 32 // attempts without a lock to add what somebody else's may stand in the place of
)

// Session is a Conn's work on one table. It remembers what it read: while
// nobody else commits, the next apply starts from there. Version goes into the
// tag.
type Session struct {
	Table   string
	Version string
	conn    *Conn
	live    *Live
	lockOK  bool // false: it goes on without the lock
	drains  bool // it removes what drains, and nothing else
}

// Session starts work on a table.
func (c *Conn) Session(table, version string) *Session {
	return &Session{Table: table, Version: version, conn: c, lockOK: true}
}

// Apply makes the namespace hold the wanted state, whose table must be the
// session's, and proves it by reading back. No packet meets a moment without
// rules. On an error the former state is in force again, or what somebody else
// wrote meanwhile. A context that ends once the wanted rules are in force is
// too late. A state that holds nothing is ErrEmptyState: to take away what is there
// is [Session.Remove].
func (s *Session) Apply(ctx context.Context, want rules.State) (Result, error) {
	want = want.Normal()
	if nothing(want) {
		return Result{}, ErrEmptyState
	}
	if err := want.CheckNormal(); err != nil {
		return Result{}, err
	}
	if want.Table != nil && want.Table.Name != s.Table {
		return Result{}, fmt.Errorf("the state is of table %s, the session of %s", want.Table.Name, s.Table)
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.settle(ctx, want)
}

// Remove removes the session's table and the routing that weir added for it, and
// nothing else.
func (s *Session) Remove(ctx context.Context) (Result, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.settle(ctx, rules.State{})
}

// Verify reads what is live and lists in what it is not as wanted.
func (s *Session) Verify(ctx context.Context, want rules.State) (*Live, []rules.Difference, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	live, err := s.conn.readSettled(ctx, s.Table, want, allElements, func(l *Live) bool { return len(l.Differences(want)) > 0 })
	if err != nil {
		return nil, nil, err
	}
	s.live = live
	return live, live.Differences(want), nil
}

// settle applies until the state holds at a generation that this program made
// or found, or gives up. Where somebody holds the lock for long it goes on without:
// every commit is guarded all the same.
func (s *Session) settle(ctx context.Context, want rules.State) (Result, error) {
	var result Result
	defer s.conn.endWatch()
	defer func(ok bool) { s.lockOK = ok }(s.lockOK)
	start := time.Now()
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, want, attempt, &result)
		if err == nil {
			s.conn.added = nil
		}
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return result, s.conn.interrupted(start, err)
		case !errors.Is(err, errGeneration) && !errors.Is(err, errUnknown):
			return result, err
		}
		if errors.Is(err, errLocked) && time.Since(start) > lockPatience {
			holder := s.conn.holder(ctx, s.live.lockPort())
			s.lockOK, result.LockHeld = false, &holder
		}
		if time.Since(start) > patience {
			return result, s.conn.kept(start, err)
		}
		s.live = nil
		s.conn.beginWatch(ctx, s.Table)
		if err := pause(ctx, rand.N(min(time.Millisecond<<min(attempt, 10), maxRetryPause))); err != nil {
			return result, s.conn.interrupted(start, err)
		}
	}
}

// attempt reads, changes and reads back once, after so many before. There is no
// error when the state was found to hold.
func (s *Session) attempt(ctx context.Context, want rules.State, before int, result *Result) error {
	start := time.Now()
	if err := s.refresh(ctx, want); err != nil {
		return err
	}
	result.Read += time.Since(start)
	live := s.live
	if err := errors.Join(live.refusal(want), s.notDraining()); err != nil {
		return err
	}
	contrasts := live.contrast(want)
	if result.Outcome == "" {
		result.Differences, result.Previous, result.Foreign = contrasts.Differences, live.Tag, live.Foreign
		result.Outcome = idle(want)
	}
	change := live.routing.change(want, live.Tag)
	untold := live.Tag != nil && len(without(s.conn.added, live.Tag.Added)) > 0
	if len(contrasts.Differences) == 0 && change.empty() && !untold {
		return nil
	}
	switch {
	case live.busy() && s.lockOK:
		return errLocked
	case live.lock != nil && !live.lock.owned:
		result.LockHeld = &Holder{None: true}
	}
	w := &work{Session: s, want: want, former: live, generation: live.generation, start: start, next: live.Leftover, attempts: before, alone: before == 0 && !live.any() && live.lock == nil,
		contrasts: live.changeTo(want, contrasts)}
	outcome, err := w.do(ctx, change)
	result.Commit += w.commitTime
	result.Verify += w.verifyTime
	result.Kept, result.Unlisted = w.open.kept, w.open.unlisted
	if (w.committed || errors.Is(err, errUnknown)) && result.Outcome == idle(want) {
		result.Outcome = outcome // a further attempt does not make it less
	}
	return err
}

// idle is the outcome where nothing is to do.
func idle(want rules.State) Outcome {
	if nothing(want) {
		return Absent
	}
	return Unchanged
}

func nothing(s rules.State) bool { return s.Table == nil && s.Routing() == nil }

// refresh makes s.live current: as it is while the generation stands.
func (s *Session) refresh(ctx context.Context, want rules.State) error {
	if s.live != nil && (!s.live.bare || want.Table == nil) {
		if g, err := s.conn.generation(ctx); err == nil && g == s.live.generation {
			r, err := s.conn.readRouting(ctx, want, s.live.beside)
			s.live.routing = r
			return err
		}
	}
	with := elementsFilter(allElements)
	if want.Table == nil {
		with = noElements // the table goes, whatever is in it
	}
	live, err := s.conn.readUnlocked(ctx, s.Table, want, with)
	if err == nil {
		live.bare = want.Table == nil && live.State.Table != nil
	}
	s.live = live
	return err
}

// work is one try at turning the former state into the wanted one. Each commit
// is guarded with the generation that the one before made.
type work struct {
	*Session
	want       rules.State
	former     *Live
	contrasts  rules.Changes // between the tables of the two
	generation uint32
	start      time.Time
	tag        Tag  // what it writes
	attempts   int  // that were made before
	alone      bool // it found nothing of ours, nor anybody else at work
	committed  bool // the wanted rules are in force
	held       bool // the lock
	next       bool // the helper table stands
	overtaken  bool // somebody else committed meanwhile
	open       openConnections

	commitTime, verifyTime time.Duration
}

func (w *work) commit(ctx context.Context, fill func(*batch)) error {
	err := w.commitNext(ctx, fill)
	for errors.Is(err, errGeneration) {
		if err := w.goOn(ctx); err != nil {
			return err
		}
		err = w.commitNext(ctx, fill)
	}
	return w.blame(err)
}

// commitNext commits if nobody else did.
func (w *work) commitNext(ctx context.Context, fill func(*batch)) error {
	start := time.Now()
	defer func() { w.commitTime += time.Since(start) }()
	b := &batch{}
	fill(b)
	if err := w.conn.commit(ctx, b, w.generation); err != nil {
		return err
	}
	w.generation = following(w.generation)
	return nil
}

// goOn takes somebody else's commit in, if it changed nothing of ours. Who holds the
// lock need not start over even where that is not known: nobody else of weir's is at
// work, and what a stranger did to our tables shows when they are read back.
func (w *work) goOn(ctx context.Context) error {
	if time.Since(w.start) > patience {
		return errGeneration
	}
	now, err := w.conn.generation(ctx)
	if err != nil {
		return err
	}
	if !w.conn.quiet(ctx, w.generation, now) {
		if !w.held {
			return errGeneration
		}
		w.overtaken = true
		w.conn.beginWatch(ctx, w.Table)
	}
	w.generation = now
	return nil
}

// blame puts a failure down to whoever committed meanwhile.
func (w *work) blame(err error) error {
	if err != nil && w.overtaken {
		return fmt.Errorf("%w: %w", errGeneration, err)
	}
	return err
}

// following is the generation after g; the kernel leaves 0 out.
func following(g uint32) uint32 { return max(g+1, 1) }

func (w *work) do(ctx context.Context, change routingChange) (outcome Outcome, err error) {
	defer func() {
		if w.next || w.held {
			w.live = nil
			if w.held {
				w.generation = 0 // whoever else commits has no business with the helper tables
			}
			err = errors.Join(err, w.release(context.WithoutCancel(ctx)))
		}
	}()
	elements, elementsOnly := w.contrasts.Elements, w.contrasts.ElementsOnly
	if !w.alone && (!change.empty() || w.want.Table != nil && w.former.State.Table != nil && !elementsOnly) {
		if change, err = w.lock(ctx, change); err != nil {
			return "", err
		}
	}
	elementsAlone := elementsOnly && change.empty()
	missing := change.add
	change.add = rules.State{}
	if err := w.conn.eachOdd(ctx, change.odd, false); err != nil {
		return "", errors.Join(err, w.undo(context.WithoutCancel(ctx), change))
	}
	if change.add, err = w.conn.addRouting(ctx, missing); err != nil {
		return "", errors.Join(err, w.undo(context.WithoutCancel(ctx), change))
	}
	if err := w.blocked(ctx, missing, change.add); err != nil {
		return "", errors.Join(err, w.undo(context.WithoutCancel(ctx), change))
	}
	w.tag = w.nextTag(change)
	outcome, err = w.commitTables(ctx, elements, elementsOnly, change)
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return outcome, errors.Join(err, w.undo(ctx, change))
	}
	if err := w.removeStale(ctx, change.remove); err != nil {
		return outcome, err
	}
	if err := w.readBack(ctx, elements, elementsAlone, change); err != nil {
		return outcome, err
	}
	if err := w.release(ctx); err != nil {
		return outcome, nil // it is tried again above
	}
	if proven := w.live.generation; w.generation == proven || w.generation == following(proven) {
		w.live.generation = w.generation
	} else {
		w.live = nil
	}
	return outcome, nil
}

// blocked is why something of the missing routing was not added and is not there:
// the kernel has no room for it beside what somebody else put in its place.
func (w *work) blocked(ctx context.Context, missing, added rules.State) error {
	if len(missing.Routing()) == len(added.Routing()) {
		return nil
	}
	now, err := w.conn.readRouting(ctx, w.want, w.former.beside)
	if err != nil {
		return err
	}
	left := now.change(w.want, w.former.Tag).add.Routing()
	if len(left) == 0 {
		return nil // another of ours added it meanwhile
	}
	err = &RejectedError{Where: strings.Join(left, ", "), Err: unix.EEXIST, Hint: "somebody else's stands in its place"}
	if !w.held && w.attempts < maxUnlocked { // another of ours may have taken it out again
		err = fmt.Errorf("%w: %w", errGeneration, err)
	}
	return err
}

// removeStale removes the routing that the new rules do not need. Without the lock
// another apply may have committed meanwhile, and need it.
func (w *work) removeStale(ctx context.Context, stale rules.State) error {
	if !w.held && !w.alone && len(stale.Routing()) > 0 {
		if now, err := w.conn.generation(ctx); err != nil {
			return err
		} else if now != w.generation && !w.conn.quiet(ctx, w.generation, now) {
			return errGeneration
		}
	}
	return w.conn.removeRouting(ctx, stale)
}

// undo takes out what was added for rules that were refused, and puts the oddities
// back. Without the lock another may have found the former there, and count on it:
// then it stays, for the next attempt.
func (w *work) undo(ctx context.Context, change routingChange) error {
	if !w.held {
		if g, err := w.conn.generation(ctx); err != nil || g != w.generation && !w.conn.quiet(ctx, w.generation, g) {
			return err
		}
	}
	return errors.Join(w.conn.removeRouting(ctx, change.add), w.conn.eachOdd(ctx, change.odd, true))
}

// commitTables does what nftables needs, in as few commits as leave no gap.
func (w *work) commitTables(ctx context.Context, elements []rules.SetChange, elementsOnly bool, change routingChange) (outcome Outcome, err error) {
	have, want := w.former.State.Table, w.want.Table
	switch {
	case want == nil && have == nil: // routing alone
	case want == nil:
		err = w.commit(ctx, func(b *batch) { lower(b, have).deleteTable() })
	case have == nil:
		outcome = Created
		err = w.keepingOpen(ctx, have, want, func(want *rules.Table) error {
			return w.commit(ctx, func(b *batch) { addWhole(b, want, w.tag) })
		})
	case elementsOnly:
		err = w.commit(ctx, func(b *batch) { changeElements(b, want, elements, w.former.tagged, w.tag) })
	default:
		outcome = Replaced
		err = w.keepingOpen(ctx, have, want, func(want *rules.Table) error { return w.makeBeforeBreak(ctx, have, want) })
	}
	w.committed = err == nil
	if nothing(w.want) {
		outcome = Removed
	}
	return cmp.Or(outcome, Updated), err
}

// makeBeforeBreak brings the wanted rules up in a second table before it takes
// the first one's down: packets in flight can meet the middle of a batch that
// re-creates a set or a map, and there meet the second table instead.
func (w *work) makeBeforeBreak(ctx context.Context, have, want *rules.Table) error {
	want = withLiveElements(want, have)
	next := *want
	next.Name = reserved.Next(w.Table)
	err := w.commit(ctx, func(b *batch) {
		if w.next {
			lower(b, &next).deleteTable()
		}
		addWhole(b, &next, w.tag)
	})
	if err != nil {
		return err
	}
	w.next = true
	if err := w.compareNext(ctx, &next); err != nil {
		return err
	}
	return w.commit(ctx, func(b *batch) { replaceTable(b, have, want, w.former.tagged, w.tag) })
}

// compareNext reads the helper table back, so that what a kernel takes
// differently from what was meant shows before the former rules go.
func (w *work) compareNext(ctx context.Context, next *rules.Table) error {
	start := time.Now()
	defer func() { w.verifyTime += time.Since(start) }()
	for {
		got, err := w.conn.tableAlone(ctx, next.Name)
		g, gerr := w.conn.generation(ctx)
		switch {
		case gerr != nil:
			return gerr
		case g != w.generation:
			if err := w.goOn(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return w.blame(err)
		}
		if d := (rules.State{Table: next}).Compare(rules.State{Table: got}); len(d) > 0 {
			return w.blame(&DriftError{next.Name, d})
		}
		return nil
	}
}

// tableAlone reads one table without its tag.
func (c *Conn) tableAlone(ctx context.Context, name string) (*rules.Table, error) {
	chains, err := c.chains(ctx)
	if err != nil {
		return nil, err
	}
	t, _, err := c.table(ctx, inet(name), 0, chains[inet(name)], nil, allElements)
	return t, err
}

// formerWithElements is what is live after a change of elements that was seen to
// hold.
func (w *work) formerWithElements() *Live {
	live := *w.former
	live.State.Table = withLiveElements(w.want.Table, live.State.Table)
	live.listed = live.State.Table
	live.Tag, live.tagged = &w.tag, true
	live.Leftover, live.strangers, live.generation = false, nil, w.generation
	return &live
}

// readBack proves that the wanted state is in force at the generation of the
// last commit. Where it is not, and nobody else wrote, the former state is put
// back.
func (w *work) readBack(ctx context.Context, elements []rules.SetChange, elementsAlone bool, change routingChange) error {
	start := time.Now()
	defer func() { w.verifyTime += time.Since(start) }()
	if elementsAlone && countElements(elements) <= maxSpotChecks {
		hold, err := w.elementsHold(ctx, elements)
		if err != nil {
			return err
		}
		if hold {
			w.live = w.formerWithElements()
			return nil
		}
	}
	live, err := w.conn.read(ctx, w.Table, w.want, allElements)
	for errors.Is(err, errGeneration) {
		if err := w.goOn(ctx); err != nil {
			return err
		}
		live, err = w.conn.read(ctx, w.Table, w.want, allElements)
	}
	if err != nil {
		return err
	}
	if live.generation != w.generation {
		if err := w.goOn(ctx); err != nil {
			return err
		}
		w.generation = live.generation
	}
	live.Leftover, live.lock = false, nil // both go with the release
	if d := live.contrast(w.want).Differences; len(d) > 0 {
		if w.overtaken || w.otherRouting(live, d) {
			// Somebody else is at it: never restore over them.
			return fmt.Errorf("%w: %w", errGeneration, &DriftError{w.Table, d})
		}
		return errors.Join(&DriftError{w.Table, d}, w.restore(ctx, change))
	}
	w.live = live
	return nil
}

// otherRouting reports whether another of ours may have changed the routing, and
// nothing else differs: without the lock at any moment, beside who holds it by
// adding, before it finds that it was not alone.
func (w *work) otherRouting(live *Live, differences []rules.Difference) bool {
	if len((rules.State{Table: w.want.Table}).ChangesFrom(rules.State{Table: live.State.Table}).Differences) > 0 {
		return false
	}
	missing := slices.ContainsFunc(differences, func(d rules.Difference) bool { return d.Want != "" })
	return !w.held || !missing
}

// restore puts the former state back. A table that was to be removed is still there
// if it differs from none; its elements were not read.
func (w *work) restore(ctx context.Context, change routingChange) error {
	_, err := w.conn.addRouting(ctx, change.remove)
	if err == nil && !w.former.bare {
		err = w.restoreTable(ctx)
	}
	if err == nil {
		err = errors.Join(w.conn.removeRouting(ctx, change.add), w.conn.eachOdd(ctx, change.odd, true))
	}
	if err != nil {
		return fmt.Errorf("put the former state back: %w", err)
	}
	return nil
}

func (w *work) restoreTable(ctx context.Context) error {
	return w.commitNext(ctx, func(b *batch) {
		removeTable(b, w.Table)
		if former := w.former.State.Table; former != nil {
			var tag Tag
			if w.former.Tag != nil {
				tag = *w.former.Tag
			}
			addWhole(b, former, tag)
		}
	})
}

// removeTable deletes a table that may not be there.
func removeTable(b *batch, name string) {
	l := lower(b, &rules.Table{Name: name})
	l.addTable()
	l.deleteTable()
}

// release takes the helper tables away.
func (w *work) release(ctx context.Context) error {
	if !w.next && !w.held {
		return nil
	}
	err := w.commit(ctx, func(b *batch) {
		if w.next {
			removeTable(b, reserved.Next(w.Table))
		}
		if w.held {
			lower(b, &rules.Table{Name: reserved.Lock}).deleteTable()
		}
	})
	if err != nil {
		return fmt.Errorf("take the helper tables away: %w", err)
	}
	w.next, w.held = false, false
	return nil
}

// lock creates the lock table, which belongs to this program's socket and goes
// with it, and looks at the routing again: only who holds the lock changes
// that, but for who finds nothing of ours. That one does without, for the end of
// a table is a wait of milliseconds for its socket's owner, and its only commit
// fails if anybody took the lock, or was faster. Kernels before Linux 5.12 have no such tables; there the routing is
// compared once more at the end, as everywhere.
func (w *work) lock(ctx context.Context, change routingChange) (routingChange, error) {
	if !w.lockOK || w.former.lock != nil && !w.former.lock.owned {
		return change, nil // what has its name and no owner is no lock
	}
	err := w.commit(ctx, func(b *batch) {
		l := lower(b, &rules.Table{Name: reserved.Lock})
		l.add(newTable(l, tableOwner, netlink.Create|netlink.Excl))
	})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		w.lockOK = false
		return change, nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, errOwned):
		return change, errLocked
	case err != nil:
		return change, err
	}
	w.held = true
	w.former.routing, err = w.conn.readRouting(ctx, w.want, w.former.beside)
	return w.former.routing.change(w.want, w.former.Tag), err
}

var errLocked = fmt.Errorf("another apply holds the lock, table inet %s: %w", reserved.Lock, errGeneration)

// lockPort is the port of the socket that holds the lock, as far as it was read.
func (l *Live) lockPort() uint32 {
	if l == nil || l.lock == nil {
		return 0
	}
	return l.lock.port
}

func newTable(l *lowering, flags uint32, how netlink.HeaderFlags) change {
	return change{typ: unix.NFT_MSG_NEWTABLE, flags: how, where: "table inet " + l.table, kind: "table",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.NFTA_TABLE_FLAGS, flags) })}
}

// nextTag says what this apply writes. An address that was there before is not
// ours, unless an earlier apply added it.
func (w *work) nextTag(change routingChange) Tag {
	added := change.add.Addresses
	for _, a := range w.former.routing.addresses {
		if a.addedBy(w.former.Tag) && slices.Contains(w.want.Addresses, a.Prefix) && !slices.Contains(added, a.Prefix) {
			added = append(added, a.Prefix)
		}
	}
	return newTag(w.former.routing.withoutForeign(w.want), w.Version, w.want.Addresses, added)
}

// addWhole adds a table with everything in it.
func addWhole(b *batch, t *rules.Table, tag Tag) {
	l := lower(b, t)
	l.addTable()
	l.addAll(t, nil)
	l.addTag(tag)
}

func (l *lowering) addTag(tag Tag) {
	s := tag.set()
	l.addSet(s)
	l.addElements(s, s.Elements)
}

// replaceTag makes the tag say what this batch writes.
func (l *lowering) replaceTag(tagged bool, tag Tag) {
	if tagged {
		l.deleteSet(reserved.Tag)
	}
	l.addTag(tag)
}

// changeElements sends the elements that differ, and the tag.
func changeElements(b *batch, want *rules.Table, changes []rules.SetChange, tagged bool, tag Tag) {
	l := lower(b, want)
	for _, c := range changes {
		l.deleteElements(c.Set, c.Delete)
		l.addElements(c.Set, c.Add)
	}
	l.replaceTag(tagged, tag)
}

// replaceTable makes every chain and every changed set anew. Sets that stay the
// same stay; so do live ones, with their elements.
func replaceTable(b *batch, have, want *rules.Table, tagged bool, tag Tag) {
	l := lower(b, want)
	if len(have.Unsupported()) > 0 {
		// Something that cannot be taken out piece by piece: with the whole table.
		l.deleteTable()
		addWhole(b, want, tag)
		return
	}
	keep := func(s *rules.Set) bool { return keeps(have.Set(s.Name), s) }
	for _, c := range have.Chains {
		l.flushChain(c.Name)
	}
	for _, s := range have.Sets {
		if w := want.Set(s.Name); w == nil || !keep(w) {
			l.deleteSet(s.Name)
		}
	}
	for _, c := range have.Chains {
		l.deleteChain(c.Name)
	}
	l.addAll(want, keep)
	l.replaceTag(tagged, tag)
}

// keeps reports whether a set can stay as the kernel has it. Verdict maps
// cannot: they hold on to chains that are made anew.
func keeps(have, want *rules.Set) bool {
	return have != nil && !want.Verdicts && want.Same(have)
}

// withLiveElements is the table with the elements that its live sets have now.
func withLiveElements(want, have *rules.Table) *rules.Table {
	t := *want
	t.Sets = nil
	for _, s := range want.Sets {
		if now := have.Set(s.Name); s.Live && now != nil && takesElements(s, now) {
			c := *s
			c.Elements = now.Elements
			s = &c
		}
		t.Sets = append(t.Sets, s)
	}
	return &t
}

// takesElements reports whether a set can hold the elements of another as they are:
// a new size or a comment is no reason to lose them.
func takesElements(s, of *rules.Set) bool {
	return slices.Equal(s.Key, of.Key) && s.Interval == of.Interval && s.Verdicts == of.Verdicts && (s.Expires || !of.Expires) &&
		(s.Size == 0 || len(of.Elements) <= int(s.Size))
}
