from relu_ext._table cimport KernelTable

cdef KernelTable *active_table
