"""Docstrings that are written together, from paragraphs that several functions share."""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport Py_INCREF

cdef extern from *:
    """
    static const char *relu_ext_doc(PyObject *function)
    {
        return ((PyCFunctionObject *)function)->m_ml->ml_doc;
    }
    static void relu_ext_set_doc(PyObject *function, const char *doc)
    {
        ((PyCFunctionObject *)function)->m_ml->ml_doc = doc;
    }
    """
    const char *doc_of "relu_ext_doc"(object function)
    void set_doc "relu_ext_set_doc"(object function, const char *doc)


cdef inline int fill_doc(object function, dict paragraphs) except -1:
    """Put paragraphs where the docstring of a function names them, and the function where users
    find it."""
    cdef bytes doc = doc_of(function).decode().format_map(paragraphs).encode()
    Py_INCREF(doc)  # The function points to it from now on.
    set_doc(function, PyBytes_AS_STRING(doc))
    function.__module__ = "relu_ext"  # errors name it
    return 0
