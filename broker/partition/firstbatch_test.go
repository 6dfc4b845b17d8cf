package partition

import (
	"testing"

	"lograft/record"
)

func batchOf(t *testing.T, id int64, sequence int32) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 10, ProducerID: id, BaseSequence: sequence})
	if err := b.Append(record.Record{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// A producer that is not known begins at sequence 0: if its first batch was refused, the second must not be taken in its place.
// Found by broker/sim, seed 1795537306927114117.
func TestUnknownProducerBeginsAtZero(t *testing.T) {
	table := producers{}
	if v, _ := table.judge(batchOf(t, 7, 1)); v != verdictGap {
		t.Errorf("sequence 1 of an unknown producer: verdict %d, want a gap", v)
	}
	first := batchOf(t, 7, 0)
	if v, _ := table.judge(first); v != verdictAppend {
		t.Errorf("sequence 0 of an unknown producer: verdict %d, want append", v)
	}
	table.apply(first, 2, 0)
	if v, _ := table.judge(batchOf(t, 7, 1)); v != verdictAppend {
		t.Errorf("sequence 1 after 0: verdict %d, want append", v)
	}
}
