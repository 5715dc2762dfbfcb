from relu_ext._table cimport KernelTable

cdef KernelTable *active_table
cdef Py_ssize_t last_level_cache  # in bytes
