"""What all public functions share: docstrings from paragraphs, and no count of references."""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyMethodDef
from cpython.ref cimport Py_INCREF

cdef extern from "Python.h":
    ctypedef struct PyCFunctionObject:
        PyMethodDef *m_ml

cdef extern from *:
    """
    /* Without the GIL, threads that call one function contend for its reference count. Two threads
     * with 64 float32 each made 0.65 times the calls of one thread (CPython 3.13t), and make 2.0
     * times since the functions are immortal, which the module never frees anyway. */
    #ifdef Py_GIL_DISABLED
    /* More than UINT32_MAX: immortal, says the C API. */
    #define RELU_EXT_STOP_COUNTING(function) Py_SET_REFCNT((function), PY_SSIZE_T_MAX)
    #else
    #define RELU_EXT_STOP_COUNTING(function) ((void)(function))
    #endif
    """
    void stop_counting "RELU_EXT_STOP_COUNTING"(object function)


cdef inline int fill_doc(object function, dict paragraphs) except -1:
    """Put paragraphs where the docstring of a function names them, and the function where users
    find it."""
    cdef PyMethodDef *definition = (<PyCFunctionObject *>function).m_ml
    cdef bytes doc = definition.ml_doc.decode().format_map(paragraphs).encode()
    Py_INCREF(doc)  # The function points to it from now on.
    definition.ml_doc = PyBytes_AS_STRING(doc)
    stop_counting(function)
    function.__module__ = "relu_ext"  # errors name it
    return 0
