# Finds nvcc and what its objects are linked with; for zerolane itself and, installed beside zerolane-config.cmake, for
# packages of ops. Sets in the caller:
#
#   ZEROLANE_HAS_NVCC            whether code for GPUs is built; the others are set if so
#   ZEROLANE_NVCC                the compiler
#   ZEROLANE_CUDART              libcudart_static.a
#   ZEROLANE_CUDA_INCLUDE        the folder of cuda_runtime_api.h
#   ZEROLANE_CUDA_ARCHITECTURES  flags: Turing to Blackwell, and what the driver compiles for GPUs yet to come
#
# The option ZEROLANE_CUDA is AUTO (where nvcc is found), ON (or fail) or OFF; CMAKE_CUDA_ARCHITECTURES names others (75;89).
function(zerolane_find_nvcc)
  set(ZEROLANE_HAS_NVCC FALSE PARENT_SCOPE)
  set(ZEROLANE_CUDA "AUTO" CACHE STRING "Build code for GPUs: AUTO (where nvcc is found), ON (or fail), OFF")
  set_property(CACHE ZEROLANE_CUDA PROPERTY STRINGS AUTO ON OFF)
  string(TOUPPER "${ZEROLANE_CUDA}" wanted)
  if(wanted STREQUAL "")
    set(wanted AUTO)
  endif()
  if(NOT wanted MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "ZEROLANE_CUDA is '${ZEROLANE_CUDA}', expected AUTO, ON or OFF")
  endif()
  if(wanted STREQUAL "OFF")
    message(STATUS "zerolane: no code for GPUs (ZEROLANE_CUDA=OFF)")
    return()
  endif()

  # The wheels nvidia-cuda-nvcc, -nvvm, -crt and -runtime unpack into one folder of this Python; else CUDA_HOME, PATH and
  # the usual folder. CUDACXX names one and stands alone.
  # Looked for each time: an isolated build's wheels are gone at the next.
  foreach(name ZEROLANE_NVCC ZEROLANE_CUDART ZEROLANE_CUDA_INCLUDE)
    unset(${name} CACHE)
  endforeach()
  if(DEFINED ENV{CUDACXX})
    set(ZEROLANE_NVCC "$ENV{CUDACXX}")
    set(ZEROLANE_NVCC "$ENV{CUDACXX}" PARENT_SCOPE)
  else()
    # Where this file is installed in site-packages, the wheels may be its neighbours.
    set(wheel_folders "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../../../../nvidia/cu13/bin")
    if(Python_EXECUTABLE)
      execute_process(
        COMMAND "${Python_EXECUTABLE}" -c "import sys; print(';'.join(p + '/nvidia/cu13/bin' for p in sys.path if p))"
        OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      list(PREPEND wheel_folders ${found})
    endif()
    find_program(ZEROLANE_NVCC nvcc HINTS ${wheel_folders} ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda
      PATH_SUFFIXES bin)
  endif()

  set(problem "")
  if(NOT ZEROLANE_NVCC)
    set(problem "nvcc was not found")
  else()
    # nvcc may be a script that calls the real one; only nvcc itself knows its folder.
    execute_process(COMMAND "${ZEROLANE_NVCC}" --dryrun -x cu -c /dev/null -o /dev/null
      OUTPUT_QUIET ERROR_VARIABLE dryrun RESULT_VARIABLE status)
    execute_process(COMMAND "${ZEROLANE_NVCC}" --version OUTPUT_VARIABLE version ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+)\\.([0-9]+)" release "${version}")
    set(cuda_major "${CMAKE_MATCH_1}")
    string(REGEX MATCH "_HERE_=([^\r\n]+)" here "${dryrun}")
    set(cuda_bin "${CMAKE_MATCH_1}")
    if(NOT status EQUAL 0 OR cuda_bin STREQUAL "")
      set(problem "'${ZEROLANE_NVCC}' does not run: ${dryrun}")
    elseif(NOT cuda_major STREQUAL "13")
      set(problem "'${ZEROLANE_NVCC}' is ${release}, expected CUDA 13")
    else()
      get_filename_component(cuda_root "${cuda_bin}/.." REALPATH)
      set(target_root "${cuda_root}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux")
      # Wheels put libraries into lib, installers into lib64 or targets.
      find_file(ZEROLANE_CUDART cudart_static NAMES libcudart_static.a NO_DEFAULT_PATH
        PATHS "${cuda_root}/lib" "${cuda_root}/lib64" "${target_root}/lib")
      find_path(ZEROLANE_CUDA_INCLUDE cuda_runtime_api.h NO_DEFAULT_PATH
        PATHS "${cuda_root}/include" "${target_root}/include")
      if(NOT ZEROLANE_CUDART OR NOT ZEROLANE_CUDA_INCLUDE)
        set(problem "'${cuda_root}' has nvcc and lacks libcudart_static.a or cuda_runtime_api.h")
      endif()
    endif()
  endif()
  if(problem)
    if(wanted STREQUAL "ON")
      message(FATAL_ERROR "ZEROLANE_CUDA=ON: ${problem}. Install nvidia-cuda-nvcc, nvidia-nvvm, nvidia-cuda-crt and "
        "nvidia-cuda-runtime (13.0) from PyPI, or name an nvcc with CUDACXX.")
    endif()
    message(STATUS "zerolane: no code for GPUs (${problem})")
    return()
  endif()
  message(STATUS "zerolane: code for GPUs with ${ZEROLANE_NVCC} (${release}), ${ZEROLANE_CUDART}")

  set(numbers "${CMAKE_CUDA_ARCHITECTURES}")
  if(NOT numbers)
    set(numbers 75 80 90 100 120)  # code for 8.0 also runs on 8.6 to 8.9
  endif()
  set(flags "")
  foreach(number ${numbers})
    list(APPEND flags -gencode arch=compute_${number},code=sm_${number})
  endforeach()
  list(GET numbers -1 newest)
  list(APPEND flags -gencode arch=compute_${newest},code=compute_${newest} -Xfatbin=-compress-all)
  set(ZEROLANE_CUDA_ARCHITECTURES "${flags}" PARENT_SCOPE)
  set(ZEROLANE_HAS_NVCC TRUE PARENT_SCOPE)
endfunction()
zerolane_find_nvcc()
