// SPDX-License-Identifier: Apache-2.0

package rules

// Selector is the key as an untyped selector.
func (k Key[T]) Selector() Selector { return Selector(k) }

// Type is the kind of value that the key reads, as in nft's `typeof`.
func (k Key[T]) Type() DataType { return Selector(k).Type() }

// Is matches one value, prefix or wildcard.
func (k Key[T]) Is(v T) Match { return k.In(v) }

// Not matches every other value.
func (k Key[T]) Not(v T) Match { return k.NotIn(v) }

// In matches any of the values. With none it matches nothing and is refused by
// [State.Check].
func (k Key[T]) In(vs ...T) Match {
	ranges := make([]Range, len(vs))
	for i, v := range vs {
		ranges[i] = RangeOf(v)
	}
	return k.Within(ranges...)
}

// NotIn matches values that are none of these.
func (k Key[T]) NotIn(vs ...T) Match { return k.In(vs...).negated() }

// Within matches any value of the ranges, see [RangeBetween].
func (k Key[T]) Within(ranges ...Range) Match {
	m := Match{Key: []Selector{Selector(k)}}
	for _, r := range ranges {
		m.Elements = append(m.Elements, Element{Key: []Range{r}})
	}
	return m
}

// NotWithin matches values outside the ranges.
func (k Key[T]) NotWithin(ranges ...Range) Match { return k.Within(ranges...).negated() }

// Masked matches when the bits under mask equal those of v.
func (k Key[T]) Masked(v, mask T) Match {
	m := k.Is(v)
	m.Mask = RangeOf(mask).Lo
	return m
}

// AnyOf matches when any bit of v is set: `ct state established,related`.
func (k Key[T]) AnyOf(v T) Match {
	mask := RangeOf(v).Lo
	return Match{Key: []Selector{Selector(k)}, Mask: mask, Negated: true,
		Elements: []Element{{Key: []Range{single(zeros(len(mask)))}}}}
}

// AddSet declares a set of what the key reads, holding the given ranges. It is an
// interval set where a range is more than a value, and always for ports and
// addresses, so that adding the first range changes elements alone.
func (k Key[T]) AddSet(t *Table, name string, ranges ...Range) SetOf[T] {
	s := &Set{Name: name, Key: []DataType{k.Type()}}
	s.Interval = s.Key[0] == inetService || s.Key[0] == ipv4Addr || s.Key[0] == ipv6Addr
	for _, r := range ranges {
		s.Interval = s.Interval || !r.Single()
		s.Elements = append(s.Elements, Element{Key: []Range{r}})
	}
	t.Sets = append(t.Sets, s)
	return SetOf[T]{name}
}

// InSet matches the values of a declared set of the same table.
func (k Key[T]) InSet(s SetOf[T]) Match {
	return Match{Key: []Selector{Selector(k)}, Set: s.Name}
}

// NotInSet matches the values that a declared set does not hold.
func (k Key[T]) NotInSet(s SetOf[T]) Match { return k.InSet(s).negated() }
