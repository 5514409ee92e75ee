# How the CUDA sources of zerolane itself are compiled. Included before the parts that have such sources. Where there is no
# nvcc, ZEROLANE_HAS_NVCC is false and zerolane_cuda_objects is not defined.
include("${CMAKE_CURRENT_LIST_DIR}/../include/cmake/zerolane-nvcc.cmake")
if(NOT ZEROLANE_HAS_NVCC)
  return()
endif()

# Compiles CUDA sources of the calling folder and sets `result` to the objects. Called by hand: CMake's own CUDA language
# links test programs, for which nvcc looks in lib64.
function(zerolane_cuda_objects result)
  set(objects "")
  foreach(source ${ARGN})
    set(object "${CMAKE_CURRENT_BINARY_DIR}/${source}.o")
    add_custom_command(
      OUTPUT "${object}"
      COMMAND "${ZEROLANE_NVCC}" -std=c++20 -O2 ${ZEROLANE_CUDA_ARCHITECTURES} -ccbin "${CMAKE_CXX_COMPILER}"
        -allow-unsupported-compiler "-I${CMAKE_SOURCE_DIR}/cpp" "-I${CMAKE_SOURCE_DIR}/cpp/include"
        "-I${CMAKE_SOURCE_DIR}/third_party"
        -Xcompiler=-fPIC,-fvisibility=hidden,-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.
        -MD -MF "${object}.d" -c "${CMAKE_CURRENT_SOURCE_DIR}/${source}" -o "${object}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${source}"
      DEPFILE "${object}.d"
      COMMENT "Compiling ${source} for GPUs" VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  set(${result} "${objects}" PARENT_SCOPE)
endfunction()
