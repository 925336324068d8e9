"""jupyter_kernel_test with every sample that applies to a Rust kernel."""

import unittest

import jupyter_kernel_test

jupyter_kernel_test.TIMEOUT = 60


class LafterKernel(jupyter_kernel_test.KernelTests):
    kernel_name = "lafter"
    language_name = "rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("oops");'
    completion_samples = [
        {"text": "let text = String::new(); text.is_emp", "matches": {"is_empty()"}},
        {"text": "%vars"[:3], "matches": {"%vars"}},
        {"text": "Tensor::zer"},
    ]
    complete_code_samples = ["1", "let a = 1;", "fn f() { 1 }", "println!(\"{{\");", "%vars", "// {", ""]
    incomplete_code_samples = ["fn f() {", "let v = vec![1,", "1 +", "let x =", 'let s = "abc', "/* never closed"]
    invalid_code_samples = ["fn f() }", "(1]"]
    code_page_something = "?Tensor::zeros"
    code_generate_error = "no_such_name"
    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": '"a"', "result": '"a"'},
        {"code": "Tensor::zeros((2, 2), DType::F32, &Device::Cpu)?.dims().to_vec()", "result": "[2, 2]"},
        {"code": 'Html("<b>x</b>".to_string())', "mime": "text/html", "result": "<b>x</b>"},
        {"code": "image::RgbImage::new(2, 2)", "mime": "image/png"},
    ]
    code_display_data = [
        {"code": 'display(Html("<b>x</b>".to_string())); let n = 1;', "mime": "text/html"},
        {"code": 'display(plot::curves("t", "x", "y", &[plot::Series::new("s", [1.0f64, 2.0])])?); let n = 1;', "mime": "text/html"},
    ]
    code_history_pattern = "6 ?*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "Tensor::zeros"
    code_clear_output = "clear_output(false);"


if __name__ == "__main__":
    unittest.main()
