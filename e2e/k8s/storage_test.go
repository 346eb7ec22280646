package k8s

import (
	"fmt"
	"testing"

	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	st "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/component-base/featuregate"
)

type gates map[featuregate.Feature]bool

// story is one exported test with the gates that it needs. Those that read with
// RangeStream where the server has it run with and without.
type story struct {
	name    string
	gates   gates
	streams bool
	alone   bool // reads from revision 1, where other stories have no place
	run     func(t *testing.T, w *world)
}

var unsafeDelete = gates{features.AllowUnsafeMalformedObjectDeletion: true}

// plain is a test that needs nothing but a store.
func plain(name string, run func(*testing.T, storage.Interface)) story {
	return story{name: name, run: func(t *testing.T, w *world) { run(t, w.store) }}
}

// semantics come first: they watch from revision 1, which others compact.
func semantics() []story {
	return []story{
		{name: "WatchSemantics", streams: true, alone: true, run: func(t *testing.T, w *world) { st.RunWatchSemantics(t.Context(), t, w.store) }},
		{name: "WatchSemanticsWithConcurrentDecode", gates: gates{features.ConcurrentWatchObjectDecode: true}, streams: true, alone: true,
			run: func(t *testing.T, w *world) { st.RunWatchSemantics(t.Context(), t, w.store) }},
	}
}

func writes() []story {
	return []story{
		{name: "Create", run: func(t *testing.T, w *world) { st.RunTestCreate(t.Context(), t, w.store, w.stored) }},
		plain("CreateWithTTL", func(t *testing.T, s storage.Interface) { st.RunTestCreateWithTTL(t.Context(), t, s) }),
		plain("CreateWithKeyExist", func(t *testing.T, s storage.Interface) { st.RunTestCreateWithKeyExist(t.Context(), t, s) }),
		plain("UnconditionalDelete", func(t *testing.T, s storage.Interface) { st.RunTestUnconditionalDelete(t.Context(), t, s) }),
		plain("ConditionalDelete", func(t *testing.T, s storage.Interface) { st.RunTestConditionalDelete(t.Context(), t, s) }),
		plain("DeleteWithSuggestion", func(t *testing.T, s storage.Interface) { st.RunTestDeleteWithSuggestion(t.Context(), t, s) }),
		plain("DeleteWithSuggestionAndConflict", func(t *testing.T, s storage.Interface) {
			st.RunTestDeleteWithSuggestionAndConflict(t.Context(), t, s)
		}),
		plain("DeleteWithConflict", func(t *testing.T, s storage.Interface) { st.RunTestDeleteWithConflict(t.Context(), t, s) }),
		plain("DeleteWithSuggestionOfDeletedObject", func(t *testing.T, s storage.Interface) {
			st.RunTestDeleteWithSuggestionOfDeletedObject(t.Context(), t, s)
		}),
		plain("ValidateDeletionWithSuggestion", func(t *testing.T, s storage.Interface) {
			st.RunTestValidateDeletionWithSuggestion(t.Context(), t, s)
		}),
		plain("ValidateDeletionWithOnlySuggestionValid", func(t *testing.T, s storage.Interface) {
			st.RunTestValidateDeletionWithOnlySuggestionValid(t.Context(), t, s)
		}),
		plain("PreconditionalDeleteWithSuggestion", func(t *testing.T, s storage.Interface) {
			st.RunTestPreconditionalDeleteWithSuggestion(t.Context(), t, s)
		}),
		plain("PreconditionalDeleteWithOnlySuggestionPass", func(t *testing.T, s storage.Interface) {
			st.RunTestPreconditionalDeleteWithOnlySuggestionPass(t.Context(), t, s)
		}),
		{name: "DeleteWithConflictAndMissingExpectedDecodeError", gates: unsafeDelete, run: func(t *testing.T, w *world) {
			st.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(t.Context(), t, w.store, w.codec.state.setFailing)
		}},
		{name: "DeleteExpectedTransformError", gates: unsafeDelete, run: func(t *testing.T, w *world) {
			st.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, w.store, w.layer.setFailing)
		}},
		{name: "DeleteExpectedDecodeError", gates: unsafeDelete, run: func(t *testing.T, w *world) {
			st.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, w.store, w.codec.state.setFailing)
		}},
		{name: "DeleteWithSuggestionAndMissingExpectedError", gates: unsafeDelete, run: func(t *testing.T, w *world) {
			st.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(t.Context(), t, w.store)
		}},
		{name: "GuaranteedUpdate", run: func(t *testing.T, w *world) { st.RunTestGuaranteedUpdate(t.Context(), t, w, w.stored) }},
		plain("GuaranteedUpdateWithTTL", func(t *testing.T, s storage.Interface) { st.RunTestGuaranteedUpdateWithTTL(t.Context(), t, s) }),
		{name: "GuaranteedUpdateChecksStoredData", run: func(t *testing.T, w *world) {
			st.RunTestGuaranteedUpdateChecksStoredData(t.Context(), t, w)
		}},
		plain("GuaranteedUpdateWithConflict", func(t *testing.T, s storage.Interface) {
			st.RunTestGuaranteedUpdateWithConflict(t.Context(), t, s)
		}),
		plain("GuaranteedUpdateWithSuggestionAndConflict", func(t *testing.T, s storage.Interface) {
			st.RunTestGuaranteedUpdateWithSuggestionAndConflict(t.Context(), t, s)
		}),
		{name: "TransformationFailure", run: func(t *testing.T, w *world) { st.RunTestTransformationFailure(t.Context(), t, w) }},
	}
}

func reads() []story {
	return []story{
		plain("Get", func(t *testing.T, s storage.Interface) { st.RunTestGet(t.Context(), t, s) }),
		{name: "List", streams: true, run: func(t *testing.T, w *world) {
			st.RunTestList(t.Context(), t, w.store, w.compact, false, w.lists)
		}},
		{name: "ConsistentList", streams: true, run: func(t *testing.T, w *world) {
			st.RunTestConsistentList(t.Context(), t, w.store, w.raise, false, true, false)
		}},
		{name: "GetListNonRecursive", run: func(t *testing.T, w *world) { st.RunTestGetListNonRecursive(t.Context(), t, w.raise, w.store) }},
		plain("GetListRecursivePrefix", func(t *testing.T, s storage.Interface) { st.RunTestGetListRecursivePrefix(t.Context(), t, s) }),
		{name: "GetListWithErrorAggregation", gates: unsafeDelete, run: func(t *testing.T, w *world) {
			st.RunTestGetListWithErrorAggregation(t.Context(), t, w.deleter(), corrupt())
		}},
		{name: "GetListWithoutErrorAggregation", gates: gates{features.AllowUnsafeMalformedObjectDeletion: false}, run: func(t *testing.T, w *world) {
			st.RunTestGetListWithoutErrorAggregation(t.Context(), t, w, corrupt())
		}},
		plain("ListPaging", func(t *testing.T, s storage.Interface) { st.RunTestListPaging(t.Context(), t, s) }),
		{name: "ListContinuation", run: func(t *testing.T, w *world) { st.RunTestListContinuation(t.Context(), t, w.store, w.requests) }},
		// The gate adds a read of its own, which is not the list's.
		{name: "ListPaginationRareObject", gates: gates{features.ListFromCacheSnapshot: false}, run: func(t *testing.T, w *world) {
			st.RunTestListPaginationRareObject(t.Context(), t, w.store, w.requests)
		}},
		{name: "ListContinuationWithFilter", run: func(t *testing.T, w *world) {
			st.RunTestListContinuationWithFilter(t.Context(), t, w.store, w.requests)
		}},
		{name: "ListInconsistentContinuation", run: func(t *testing.T, w *world) {
			st.RunTestListInconsistentContinuation(t.Context(), t, w.store, w.compact)
		}},
		{name: "ListResourceVersionMatch", run: func(t *testing.T, w *world) { st.RunTestListResourceVersionMatch(t.Context(), t, w) }},
		plain("NamespaceScopedList", func(t *testing.T, s storage.Interface) { st.RunTestNamespaceScopedList(t.Context(), t, s) }),
		{name: "CompactRevision", gates: gates{features.ListFromCacheSnapshot: true}, run: func(t *testing.T, w *world) {
			st.RunTestCompactRevision(t.Context(), t, w.store, w.raise, w.compact)
		}},
		plain("KeySchema", func(t *testing.T, s storage.Interface) { st.RunTestKeySchema(t.Context(), t, s) }),
		{name: "Stats", run: func(t *testing.T, w *world) { st.RunTestStats(t.Context(), t, w.store, w.codec, w.layer, false) }},
		{name: "StatsOfSize", run: func(t *testing.T, w *world) {
			if err := w.store.EnableResourceSizeEstimation(w.keys); err != nil {
				t.Fatal(err)
			}
			st.RunTestStats(t.Context(), t, w.store, w.codec, w.layer, true)
		}},
	}
}

func watches() []story {
	return []story{
		plain("Watch", func(t *testing.T, s storage.Interface) { st.RunTestWatch(t.Context(), t, s) }),
		plain("ClusterScopedWatch", func(t *testing.T, s storage.Interface) { st.RunTestClusterScopedWatch(t.Context(), t, s) }),
		plain("NamespaceScopedWatch", func(t *testing.T, s storage.Interface) { st.RunTestNamespaceScopedWatch(t.Context(), t, s) }),
		plain("DeleteTriggerWatch", func(t *testing.T, s storage.Interface) { st.RunTestDeleteTriggerWatch(t.Context(), t, s) }),
		{name: "WatchFromZero", run: func(t *testing.T, w *world) { st.RunTestWatchFromZero(t.Context(), t, w.store, w.compact) }},
		plain("WatchFromNonZero", func(t *testing.T, s storage.Interface) { st.RunTestWatchFromNonZero(t.Context(), t, s) }),
		plain("DelayedWatchDelivery", func(t *testing.T, s storage.Interface) { st.RunTestDelayedWatchDelivery(t.Context(), t, s) }),
		{name: "WatchError", run: func(t *testing.T, w *world) { st.RunTestWatchError(t.Context(), t, w) }},
		plain("WatchContextCancel", func(t *testing.T, s storage.Interface) { st.RunTestWatchContextCancel(t.Context(), t, s) }),
		plain("WatcherTimeout", func(t *testing.T, s storage.Interface) { st.RunTestWatcherTimeout(t.Context(), t, s) }),
		plain("WatchDeleteEventObjectHaveLatestRV", func(t *testing.T, s storage.Interface) {
			st.RunTestWatchDeleteEventObjectHaveLatestRV(t.Context(), t, s)
		}),
		plain("WatchInitializationSignal", func(t *testing.T, s storage.Interface) { st.RunTestWatchInitializationSignal(t.Context(), t, s) }),
		{name: "ProgressNotify", run: func(t *testing.T, w *world) { st.RunOptionalTestProgressNotify(t.Context(), t, w.store, w.raise) }},
		{name: "WatchWithUnsafeDelete", gates: unsafeDelete, run: func(t *testing.T, w *world) {
			st.RunTestWatchWithUnsafeDelete(t.Context(), t, w, corrupt())
		}},
		plain("WatchDispatchBookmarkEvents", func(t *testing.T, s storage.Interface) {
			st.RunTestWatchDispatchBookmarkEvents(t.Context(), t, s, false)
		}),
		plain("SendInitialEventsBackwardCompatibility", func(t *testing.T, s storage.Interface) {
			st.RunSendInitialEventsBackwardCompatibility(t.Context(), t, s)
		}),
		{name: "WatchSemanticInitialEventsExtended", streams: true, run: func(t *testing.T, w *world) {
			st.RunWatchSemanticInitialEventsExtended(t.Context(), t, w.store)
		}},
		{name: "WatchListMatchSingle", streams: true, run: func(t *testing.T, w *world) { st.RunWatchListMatchSingle(t.Context(), t, w.store) }},
		{name: "WatchErrorIsBlockingFurtherEvents", run: func(t *testing.T, w *world) {
			st.RunWatchErrorIsBlockingFurtherEvents(t.Context(), t, w)
		}},
	}
}

// runAll tells each story on the servers at endpoints, one after the other.
func runAll(t *testing.T, endpoints []string) {
	for _, group := range []struct {
		name    string
		stories []story
	}{{"semantics", semantics()}, {"writes", writes()}, {"reads", reads()}, {"watches", watches()}} {
		t.Run(group.name, func(t *testing.T) {
			for _, s := range group.stories {
				if !s.streams {
					runOne(t, s.name, s, nil, endpoints)
					continue
				}
				for _, on := range []bool{false, true} {
					runOne(t, fmt.Sprintf("%s/stream=%v", s.name, on), s, gates{features.EtcdRangeStream: on}, endpoints)
				}
			}
		})
	}
}

func runOne(t *testing.T, name string, s story, more gates, endpoints []string) {
	t.Run(name, func(t *testing.T) {
		setGates(t, s.gates)
		setGates(t, more)
		prefix := ""
		if s.alone {
			prefix = t.Name()
		}
		w := newWorld(t, endpoints, prefix)
		s.run(t, w)
		if reads := w.kv.GetStreamReadsAndReset(); reads > 0 && !more[features.EtcdRangeStream] && len(more) > 0 {
			t.Errorf("%d lists came by RangeStream, whose gate is closed", reads)
		} else if s.name == "List" && more[features.EtcdRangeStream] && reads == 0 {
			t.Error("no list came by RangeStream")
		}
	})
}
