# Warnings, sanitizers and hardening for every target of the project: link `rtb_options`.
add_library(rtb_options INTERFACE)
target_compile_options(
  rtb_options
  INTERFACE -Wall -Wextra -Wconversion -Wno-sign-conversion -Wtype-limits -Wshadow -Wstrict-prototypes
            -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wformat=2 -Wundef -Wvla
            -Werror=implicit-function-declaration -Werror=incompatible-pointer-types
            -Werror=return-type -fno-strict-aliasing -fstack-protector-strong)
target_compile_definitions(rtb_options INTERFACE _GNU_SOURCE RTB_VERSION="${PROJECT_VERSION}")
target_include_directories(rtb_options INTERFACE ${PROJECT_SOURCE_DIR})

if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(rtb_options INTERFACE -Wlogical-op -Wduplicated-cond)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  target_compile_definitions(rtb_options INTERFACE _FORTIFY_SOURCE=2)
  target_link_options(rtb_options INTERFACE -Wl,-z,relro,-z,now)
endif()
if(RTB_WERROR)
  target_compile_options(rtb_options INTERFACE -Werror)
endif()
if(RTB_SANITIZE)
  target_compile_options(rtb_options INTERFACE -fsanitize=${RTB_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all)
  target_link_options(rtb_options INTERFACE -fsanitize=${RTB_SANITIZE})
endif()
if(RTB_FUZZ)
  target_compile_options(rtb_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(RTB_COVERAGE)
  target_compile_options(rtb_options INTERFACE --coverage -O0)
  target_link_options(rtb_options INTERFACE --coverage)
endif()
