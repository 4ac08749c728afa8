"""The test harness: everything that the conformance kit uses, authors can use."""
